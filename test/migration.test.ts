/**
 * docs/migration.md: each service runs, with the other package and with this one, answers a request in flight at
 * SIGTERM, and exits. The page shows the code of these services.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { lineWith, run } from './helpers/children'
import { directoryWithPackage } from './helpers/package'

const root = join(__dirname, '..')
const folder = join(root, 'examples/migration')
const services = readdirSync(folder).filter(file => /-(?:before|after)\.mjs$/.test(file)).map(file => file.slice(0, -4))

const directory = directoryWithPackage(t, ['examples/migration'])

/** Sends one request on a connection of its own. */
function request (port: number, path: string): Promise<{ status: number | undefined, body: string }> {
  return new Promise((resolve, reject) => {
    get({ port, path, host: '127.0.0.1', agent: false }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', chunk => { body += chunk }).on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode, body }))
    }).on('error', reject)
  })
}

/** The port in Fastify's own log line. */
function portOf (line: string): number {
  return Number(/127\.0\.0\.1:(\d+)/.exec(line)![1])
}

const packages = new Set(services.map(name => name.replace(/-(?:before|after)$/, '')))
t.equal(packages.size, 8)
t.equal(services.length, 16, 'each package has a service before and after')

for (const name of services) {
  t.test(`${name}: the request in flight at SIGTERM is answered, and everything closes`, async t => {
    const child = run(t, { args: [`examples/migration/${name}.mjs`], cwd: directory, env: { PORT: '0' } })
    const port = portOf(await lineWith(child, 'Server listening at http://127.0.0.1'))
    const answer = request(port, '/orders')
    await lineWith(child, 'incoming request')
    child.kill('SIGTERM')
    t.same(await answer, { status: 200, body: '{"rows":1}' })
    const { code, signal } = await child.ended
    t.same({ code, signal }, { code: 0, signal: null })
    // A query of a closed database fails, so this answer shows that the database has closed after it.
    t.ok(child.lines.includes('the database has closed'))
  })
}

t.test('docs/migration.md shows the code of each service, and of no other', async t => {
  const page = readFileSync(join(root, 'docs/migration.md'), 'utf8')
  const blocks = [...page.matchAll(/^```js\n(.*?)^```/gms)].map(match => match[1]!)
  t.strictSame(new Set(blocks), new Set(services.map(name => readFileSync(join(folder, `${name}.mjs`), 'utf8'))))
})
