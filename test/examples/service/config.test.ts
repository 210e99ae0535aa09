/** Wrong configurations end the start, and right ones are read in layers. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { readConfig, secretsOf } from '../../../examples/service/config'
import { concealer } from '../../../examples/service/logger'
import { variables } from '../../../examples/service/variables'
import { spawnExample, translateExample } from '../../helpers/example-service'

const DATABASE_URL = 'postgres://user:the-password@127.0.0.1:1/db'
const key = 'k'.repeat(32)
const directory = translateExample(t, { empty: '' })

t.test('a wrong configuration ends the start with one line that names the variable, before anything is connected', async t => {
  let connections = 0
  const server = net.createServer(socket => { connections++; socket.destroy() }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as net.AddressInfo
  const right = { DATABASE_URL: `postgres://user:the-password@127.0.0.1:${port}/db`, REDIS_URL: `redis://:the-password@127.0.0.1:${port}`, SHIPPING_URL: `http://127.0.0.1:${port}` }

  const wrong: Readonly<Record<string, NodeJS.ProcessEnv>> = {
    DATABASE_URL: { ...right, DATABASE_URL: '' },
    DATABASE_URL_FILE: { ...right, DATABASE_URL: '', DATABASE_URL_FILE: 'empty' },
    PORT: { ...right, PORT: '30OO' },
    REDIS_URL: { ...right, REDIS_URL: 'the-password@127.0.0.1' },
    SHIPPING_TIMEOUT: { ...right, SHIPPING_TIMEOUT: '-1' },
    NODE_ENV: { ...right, NODE_ENV: 'produktion' },
    JWT_KEYS_FILE: { ...right, NODE_ENV: 'production' }
  }
  await Promise.all(Object.entries(wrong).map(async ([name, env]) => {
    const child = spawnExample(t, directory, env)
    const { code, stderr } = await child.ended
    t.equal(code, 1, name)
    t.match(stderr, new RegExp(`^Configuration: ${name} .*\\n$`), name)
    t.equal(stderr.trim().split('\n').length, 1, `${name}: one line, no stack`)
    t.strictSame(child.lines, [], `${name}: nothing on stdout`)
    t.notMatch(stderr, 'the-password')
  }))
  t.equal(connections, 0)
})

t.test('a server that is not there ends the start with one line and without its password', async t => {
  const child = spawnExample(t, directory, { DATABASE_URL: 'postgres://user:the-password@127.0.0.1:1/db', LOG_LEVEL: 'trace' })
  const { code, stderr } = await child.ended
  t.equal(code, 1)
  t.match(stderr, /^The service does not start: connect ECONNREFUSED 127\.0\.0\.1:1\n$/)
  t.notMatch(child.lines.join('\n'), 'the-password')
})

t.test('each rule names its variable, and the received value if it is no secret', async t => {
  const directory = t.testdir({ short: 'short\n', bare: { '.env': 'PORT=x' } })
  const refusals: readonly (readonly [NodeJS.ProcessEnv, RegExp])[] = [
    [{ PORT: '65536' }, /^PORT must be a port number, from 0 to 65535, got "65536"$/],
    [{ PORT: '1.5' }, /^PORT must be/],
    [{ LOG_LEVEL: 'loud' }, /^LOG_LEVEL must be .*, got "loud"$/],
    [{ DATABASE_POOL_SIZE: '0' }, /^DATABASE_POOL_SIZE must be/],
    [{ TOKEN_LIFETIME: '1h' }, /^TOKEN_LIFETIME must be a number of seconds/],
    [{ SHIPPING_URL: 'ftp://host' }, /^SHIPPING_URL must be a URL/],
    [{ SHIPPING_TOKEN: 'two words' }, /^SHIPPING_TOKEN must be a token of at least 8 characters without spaces$/],
    [{ DATABASE_URL: 'mysql://host' }, /^DATABASE_URL must be a URL that begins with postgres:\/\/$/],
    [{ DATABASE_URL: 'postgres://host:99999/db' }, /^DATABASE_URL must be a valid URL$/],
    [{ DATABASE_URL: 'postgres://user:100%@host/db' }, /^DATABASE_URL must be a valid URL$/],
    [{ PORT: 'x', HOST: '', SHUTDOWN_DELAY: 'y' }, /^PORT must .*; SHUTDOWN_DELAY must/],
    [{ DATABASE_URL_FILE: '/secret' }, /^DATABASE_URL and DATABASE_URL_FILE are both set/],
    [{ REDIS_URL_FILE: join(directory, 'none') }, /^REDIS_URL_FILE names a file that cannot be read: .*none \(ENOENT\)$/],
    [{ JWT_KEYS_FILE: directory }, /^JWT_KEYS_FILE names a file that cannot be read: .* \(EISDIR\)$/],
    [{ JWT_KEYS_FILE: join(directory, 'short'), NODE_ENV: 'production' }, /^JWT_KEYS_FILE names a file with a key of less than 32 characters/]
  ]
  for (const [env, message] of refusals) t.throws(() => readConfig({ DATABASE_URL, ...env }, directory), { name: 'Error', message }, JSON.stringify(env))
  t.throws(() => readConfig({ DATABASE_URL }, join(directory, 'bare')), { message: /^PORT must/ }, 'a value in .env')
})

t.test('the environment wins over .env.<NODE_ENV>, that over .env, and that over the defaults', async t => {
  const directory = t.testdir({
    '.env': `DATABASE_URL=${DATABASE_URL}\nPORT=1\nHOST=from-dotenv\nREDIS_URL=redis://from-dotenv\n`,
    '.env.test': 'PORT=2\nDATABASE_POOL_SIZE=7\n'
  })
  t.match(readConfig({}, directory), { NODE_ENV: 'development', PORT: 1, HOST: 'from-dotenv', LOG_LEVEL: 'debug', DATABASE_POOL_SIZE: 10 })
  t.match(readConfig({ NODE_ENV: 'test' }, directory), { NODE_ENV: 'test', PORT: 2, HOST: 'from-dotenv', LOG_LEVEL: 'info', DATABASE_POOL_SIZE: 7 })
  const config = readConfig({ NODE_ENV: 'test', PORT: '3', REDIS_URL: '' }, directory)
  t.equal(config.PORT, 3)
  t.equal(config.REDIS_URL, undefined, 'an empty value counts as not set')
  t.equal(config.DATABASE_URL, DATABASE_URL)
})

t.test('a secret may be in a file, which wins over an earlier layer', async t => {
  const directory = t.testdir({ url: `${DATABASE_URL}\n`, '.env': 'DATABASE_URL=postgres://from-dotenv/db' })
  t.equal(readConfig({ DATABASE_URL_FILE: join(directory, 'url') }, directory).DATABASE_URL, DATABASE_URL)
})

t.test('production requires a file of keys, and other environments do not', async t => {
  const directory = t.testdir({ keys: `${key}\n` })
  t.throws(() => readConfig({ DATABASE_URL, NODE_ENV: 'production' }, directory), { message: /^JWT_KEYS_FILE is not set/ })
  t.ok(readConfig({ DATABASE_URL, NODE_ENV: 'production', JWT_KEYS_FILE: join(directory, 'keys') }, directory))
  t.ok(readConfig({ DATABASE_URL }, directory))
})

t.test('the log conceals each secret, and words that are also weak passwords remain', async t => {
  const config = readConfig({ DATABASE_URL: 'postgres://postgres:postgres@host/db', SHIPPING_TOKEN: 'a-secret-"token"' }, t.testdir({}))
  const conceal = concealer(secretsOf(config))
  t.equal(conceal(JSON.stringify({ token: 'a-secret-"token"' })), '{"token":"[secret]"}')
  t.equal(conceal('postgres://postgres:postgres@host/db'), '[secret]')
  t.equal(conceal('postgres://postgres:postgres@host/other'), 'postgres://postgres[secret]host/other')
  t.equal(conceal("resource 'postgres' closed"), "resource 'postgres' closed")
})

t.test('the README of the service explains every variable, and no other', async t => {
  const page = readFileSync(join(__dirname, '../../../examples/service/README.md'), 'utf8')
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name!)
  t.strictSame(rows.sort(), Object.keys(variables).sort())
})
