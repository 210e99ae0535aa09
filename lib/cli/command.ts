/** The contract of the subcommands of `fastify-shutdown`. */

/** The streams of the command, such as those of `process`. */
export interface Terminal {
  /** Input, for a file that is named `-`. */
  readonly stdin?: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  /** Results. */
  readonly stdout: Output
  /** Errors and progress. */
  readonly stderr: Output
}

/** A stream of the terminal. */
export interface Output {
  write (text: string): unknown
  /** Whether a person reads it. */
  readonly isTTY?: boolean
  /** Width in characters. */
  readonly columns?: number
}

/** 0: everything is right, 1: something is not, 2: the command could not run. */
export type ExitCode = 0 | 1 | 2

/** A subcommand. */
export interface Command {
  /** The help of the command, which ends with a newline. */
  readonly usage: string
  /**
   * Runs the command.
   *
   * @param args the arguments after the name of the command
   * @throws UsageError for wrong arguments. The usage is then printed, and the exit code is 2
   * @throws any other error with a message for the user, if the command could not run. The exit code is 2
   */
  run (args: readonly string[], terminal: Terminal): Promise<ExitCode>
}

/** The arguments are wrong. */
export class UsageError extends Error {}
