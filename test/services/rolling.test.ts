/**
 * The rolling-restart proof, in small: three instances with their default options restart behind each proxy and process
 * manager. No request is lost, and every acknowledged order is in the database.
 */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate } from '../helpers/children'

const root = join(__dirname, '../..')

/** The lanes run at the same time, and the topologies of a lane one after another. */
const lanes = [['nginx', 'haproxy', 'caddy', 'apache', 'pm2'], ['kube-proxy', 'cluster']]

/**
 * The clients' own connections end at an instance. These clients repeat a GET that fails on a reused connection, as
 * browsers do (RFC 9110, section 9.2.2): the instance may have closed the idle connection while the request was sent.
 */
const direct = ['pm2', 'cluster', 'kube-proxy']

interface Result {
  readonly topology: string
  readonly leftOut?: string
  readonly restarts: number
  readonly requests: number
  readonly repeated: number
  readonly orders: number
  readonly failed: number
  readonly load: number
  readonly failures: Readonly<Record<string, number>>
  readonly lostOrders: number
  readonly webSocketsClosed: number
  readonly exits: Readonly<Record<string, number>>
}

const env = {
  TAP: '',
  PLUGIN: join(translate(t.testdir(), ['lib']), 'lib/index.js'),
  REQUIRE_SERVICES: process.env['REQUIRE_SERVICES'] ?? '',
  ...(process.env['DATABASE_URL'] === undefined ? {} : { DATABASE_URL: process.env['DATABASE_URL'] }),
  // Shorter than the shortest lame-duck on Kubernetes. `npm run prove:rolling` has 8 s.
  ENDPOINT_LAG_MS: '3000'
}

// About a minute on an idle machine. The limit is for a busy one, on which the boot of an instance takes ten seconds.
t.setTimeout(400_000)
t.jobs = lanes.length
for (const lane of lanes) {
  t.test(`restarts of ${lane.join(', ')}`, { buffered: true, timeout: 390_000 }, async t => {
    for (const topology of lane) {
      await t.test(`${topology}: no request and no order is lost while every instance restarts`, async t => {
        let result = await prove(t, topology)
        if (result.failed > 0) {
          // On a busy machine, a request may meet a connection that closes (RFC 9112, section 9.5). A fault repeats.
          t.comment(`once more after ${JSON.stringify(result.failures)} with a load average of ${result.load}`)
          result = await prove(t, topology)
        }
        if (result.leftOut !== undefined) {
          // A missing program is a failure of CI. Another user than root cannot have a network namespace.
          if (process.env['REQUIRE_SERVICES'] === '1' && result.leftOut.startsWith('install ')) t.fail(result.leftOut)
          else t.pass(result.leftOut, { skip: result.leftOut })
          return
        }
        t.ok(result.repeated <= result.requests / 100, `${result.repeated} of ${result.requests} GETs repeated`)
        t.strictSame(result.failures, {}, 'requests that failed')
        t.equal(result.lostOrders, 0, 'acknowledged orders that are missing in the database')
        t.ok(result.restarts >= 2)
        t.ok(result.requests > 100 && result.orders > 10, `${result.requests} requests, ${result.orders} orders`)
        t.ok(result.webSocketsClosed > 0, 'the WebSockets of the instances that stopped have moved')
        t.strictSame(Object.keys(result.exits), [topology === 'pm2' ? 'not told' : '0'])
      })
    }
  })
}

async function prove (t: Test, topology: string): Promise<Result> {
  const child = run(t, {
    args: ['bench/rolling/index.mjs', '--topology', topology, '--contender', 'defaults', '--restarts', '2', '--rate', '50', '--no-write', '--json', ...(direct.includes(topology) ? ['--repeat'] : [])],
    cwd: root,
    env
  })
  // Runs before the teardown of `run`, which kills the child: the child first stops what it has started.
  t.teardown(async () => {
    child.process.kill('SIGTERM')
    await child.ended
  })
  const { stderr } = await child.ended
  const line = child.lines.find(each => each.startsWith('{'))
  if (line === undefined) throw new Error(`no result: ${child.lines.join('\n')}\n${stderr}`)
  return JSON.parse(line)
}
