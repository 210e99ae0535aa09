/** Starts the service. A wrong configuration ends the start with one line, before anything is connected. */
import { buildService } from './app'
import { readConfig, secretsOf } from './config'
import { ConfigError } from './environment'
import { concealer } from './logger'
import type { Config } from './variables'

async function main (): Promise<void> {
  const config = readConfig()
  await start(config).catch(error => {
    // One line, too. A driver's error may contain a URL with its password.
    throw new Error(concealer(secretsOf(config))(`The service does not start: ${reasonOf(error)}`))
  })
}

async function start (config: Config): Promise<void> {
  const app = await buildService(config)
  try {
    // One address: `localhost`, the default, can be two.
    await app.listen({ host: config.HOST, port: config.PORT })
  } catch (error) {
    await app.close()
    throw error
  }
}

// Node's error for a host with two addresses has only parts with a message.
function reasonOf (error: Error & { readonly errors?: readonly Error[] }): string {
  return error.message || error.errors?.map(({ message }) => message).join(', ') || String(error)
}

main().catch((error: Error) => {
  const line = error instanceof ConfigError ? `Configuration: ${error.message}` : error.message
  console.error(line.replaceAll(/\s+/g, ' '))
  process.exitCode = 1
})
