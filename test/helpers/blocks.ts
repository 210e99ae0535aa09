/**
 * The code blocks of the pages, by kind. The kind follows from the language of the block, and says which test runs it.
 * A block that cannot run has a comment in front of it, with the reason: `<!-- not run: needs a cluster -->`.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const root = join(__dirname, '../..')

export interface Block {
  /** The page and the line, as in `docs/pm2.md:23`. */
  readonly place: string
  readonly page: string
  readonly language: string
  readonly code: string
  /** The reason in the comment in front of the block. */
  readonly notRun?: string | undefined
}

/** The pages, without generated ones and without the translation, whose blocks are equal to those of README.md. */
export const pages: readonly string[] = [
  'README.md', 'CONTRIBUTING.md', 'examples/service/README.md', ...readdirSync(join(root, 'docs')).filter(file => file.endsWith('.md')).map(file => `docs/${file}`)
]

/** Returns the blocks of a page. @param text the text of the page, if it is not read from its file */
export function blocksOf (page: string, text = readFileSync(join(root, page), 'utf8')): Block[] {
  return [...text.matchAll(/^(?:<!-- not run: ([^\n]+) -->\n+)?```([^\n]*)\n(.*?)^```$/gms)].map(match => ({
    place: `${page}:${text.slice(0, match.index).split('\n').length + (match[1] === undefined ? 0 : 1)}`,
    page,
    language: match[2]!,
    code: match[3]!,
    notRun: match[1]
  }))
}

/** Pages whose programs have a test of their own, which reads them from the page. */
const programTests: Readonly<Record<string, string>> = {
  'docs/migration.md': 'test/migration.test.ts',
  'docs/testing.md': 'test/testing/docs.test.ts'
}

/** The first steps of a new user: how the commands and files begin that `test/newcomer.test.ts` runs. */
const firstSteps: Readonly<Record<string, readonly string[]>> = {
  'README.md': ['npm install fastify fastify-shutdown', '// server.mjs', 'node server.mjs', '// server.cjs', 'npm install --save-dev typescript @types/node', '// shutdown.test.mjs'],
  'docs/fastify-cli.md': ['npm install fastify-shutdown'],
  'docs/nestjs.md': ['npm install @nestjs/platform-fastify', '// src/main.ts']
}

/** Tests that compare what a page shows with what a program prints. */
const outputTests: Readonly<Record<string, string>> = {
  'README.md': 'test/demo.test.ts',
  'docs/drill.md': 'test/blocks/commands.test.ts',
  'docs/events.md': 'test/blocks/programs.test.ts',
  'docs/timeline.md': 'test/timeline/text.test.ts',
  'examples/service/README.md': 'test/examples/service/config.test.ts'
}

/**
 * - `program` runs as a process of its own, with what it uses but does not declare.
 * - `file` begins with its name, as in `// plugins/shutdown.js`, and runs where such a file belongs.
 * - `type` is a type of the package, and the compiler compares them.
 * - `commands` run in a shell, and so do those of a `console`, which also shows their output.
 * - `manifest` is for a platform, whose own check or program reads it.
 * - `output` is compared with what a program prints.
 * - `picture` is drawn by GitHub.
 */
export type Kind = 'program' | 'file' | 'type' | 'commands' | 'console' | 'manifest' | 'output' | 'picture' | 'not run'

const kinds: Readonly<Record<string, Kind>> = {
  js: 'program', ts: 'program', sh: 'commands', console: 'console', yaml: 'manifest', ini: 'manifest', dockerfile: 'manifest', json: 'manifest', text: 'output', mermaid: 'picture'
}

/** Returns the name in the first line of a block, as in `// plugins/shutdown.js`. */
export function fileName ({ code }: Block): string | undefined {
  return /^\/\/ (\S+\.\w+)\n/.exec(code)?.[1]
}

/** Returns the kind of a block. @throws if no rule fits */
export function kindOf (block: Block): Kind {
  if (block.notRun !== undefined) return 'not run'
  const kind = kinds[block.language]
  if (kind === undefined) throw new Error(`${block.place}: no rule for the language '${block.language}'`)
  if (kind !== 'program') return kind
  if (block.code.startsWith('interface ')) return 'type'
  return fileName(block) === undefined ? 'program' : 'file'
}

/** Whether `test/newcomer.test.ts` runs this block, in a project that npm makes. */
function isFirstStep ({ page, code }: Block): boolean {
  return firstSteps[page]?.includes(code.split('\n')[0]!) === true
}

/** Returns the test that runs a block; `undefined` for one that is not run, and for a picture. @throws if there is none */
export function testOf (block: Block): string | undefined {
  const kind = kindOf(block)
  if (isFirstStep(block)) return 'test/newcomer.test.ts'
  switch (kind) {
    case 'not run':
    case 'picture': return undefined
    case 'output': {
      const test = outputTests[block.page]
      if (test === undefined) throw new Error(`${block.place}: no test compares this output`)
      return test
    }
    case 'program':
    case 'file': {
      // The last block of docs/testing.md belongs to no test file.
      if (block.page === 'docs/testing.md' && kind === 'program' && !block.code.startsWith('test(')) break
      const test = programTests[block.page]
      if (test !== undefined) return test
    }
  }
  if (block.page === 'docs/options.md') return 'test/blocks/options.test.ts'
  return { program: 'programs', type: 'programs', file: 'files', manifest: 'files', commands: 'commands', console: 'commands' }[kind].replace(/.*/, 'test/blocks/$&.test.ts')
}

/** Returns the blocks of this kind that the tests in `test/blocks/` run. */
export function blocksOfKind (kind: Kind): Block[] {
  return pages.flatMap(page => blocksOf(page)).filter(block => kindOf(block) === kind && testOf(block)?.startsWith('test/blocks/'))
}
