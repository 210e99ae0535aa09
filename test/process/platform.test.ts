import t from 'tap'
import { detectPlatform, isClusterWorker, type Platform } from '../../lib/process/platform'

const alone = { isWorker: false }
const worker = { isWorker: true }

t.test('each platform is detected by its environment, and has its own lame-duck and grace period', async t => {
  const cases: Array<[string, NodeJS.ProcessEnv, { isWorker: boolean }, Platform]> = [
    ['a terminal', {}, alone, { name: 'plain', delay: { min: 0, max: 2_000, quiet: 500 }, gracePeriod: null, gracePeriodKnown: false }],
    ...['NODE_TEST_CONTEXT', 'JEST_WORKER_ID', 'VITEST', 'TAP'].map((name): [string, NodeJS.ProcessEnv, { isWorker: boolean }, Platform] => [name, { [name]: '1', KUBERNETES_SERVICE_HOST: '10.0.0.1' }, worker, { name: 'test-runner', delay: { min: 0, max: 0, quiet: 0 }, gracePeriod: null, gracePeriodKnown: false }]),
    ['Kubernetes', { KUBERNETES_SERVICE_HOST: '10.0.0.1' }, alone, { name: 'kubernetes', delay: { min: 5_000, max: 15_000, quiet: 1_000 }, gracePeriod: 30_000, gracePeriodKnown: false }],
    ['Kubernetes with TERMINATION_GRACE_PERIOD_SECONDS', { KUBERNETES_SERVICE_HOST: '10.0.0.1', TERMINATION_GRACE_PERIOD_SECONDS: '75' }, alone, { name: 'kubernetes', delay: { min: 5_000, max: 15_000, quiet: 1_000 }, gracePeriod: 75_000, gracePeriodKnown: true }],
    ['PM2', { pm_id: '0' }, alone, { name: 'pm2', delay: { min: 1_000, max: 1_000, quiet: 0 }, gracePeriod: 1_600, gracePeriodKnown: false }],
    ['PM2 with kill_timeout', { pm_id: '3', kill_timeout: '8000' }, alone, { name: 'pm2', delay: { min: 1_000, max: 1_000, quiet: 0 }, gracePeriod: 8_000, gracePeriodKnown: true }],
    ['PM2 with a kill_timeout of 0, which means the default', { pm_id: '3', kill_timeout: '0' }, alone, { name: 'pm2', delay: { min: 1_000, max: 1_000, quiet: 0 }, gracePeriod: 1_600, gracePeriodKnown: false }],
    ['a cluster worker', {}, worker, { name: 'cluster', delay: { min: 1_000, max: 1_000, quiet: 0 }, gracePeriod: null, gracePeriodKnown: false }],
    ['systemd', { NOTIFY_SOCKET: '/run/systemd/notify' }, alone, { name: 'systemd', delay: { min: 0, max: 2_000, quiet: 500 }, gracePeriod: 90_000, gracePeriodKnown: false }]
  ]
  for (const [name, env, cluster, expected] of cases) t.strictSame(detectPlatform(env, cluster), expected, name)
})

t.test('the process of a test is no worker of a cluster', async t => {
  t.equal(isClusterWorker(), false)
})

t.test('the outermost platform counts, because it sends SIGKILL', async t => {
  const all = { KUBERNETES_SERVICE_HOST: '10.0.0.1', pm_id: '0', kill_timeout: '9000', NOTIFY_SOCKET: '/run/notify' }
  t.equal(detectPlatform(all, worker).name, 'kubernetes')
  t.equal(detectPlatform({ ...all, KUBERNETES_SERVICE_HOST: undefined }, worker).name, 'pm2', 'PM2 forks its apps as cluster workers')
  t.equal(detectPlatform({ NOTIFY_SOCKET: '/run/notify' }, worker).name, 'cluster', 'a worker is only a part of the unit')
})

t.test('a variable of another platform, or an empty one, has no effect', async t => {
  t.equal(detectPlatform({ TERMINATION_GRACE_PERIOD_SECONDS: 'nonsense', kill_timeout: 'nonsense' }, alone).name, 'plain')
  t.equal(detectPlatform({ KUBERNETES_SERVICE_HOST: '', pm_id: '', NOTIFY_SOCKET: '' }, alone).name, 'plain')
  t.equal(detectPlatform({ KUBERNETES_SERVICE_HOST: 'x', TERMINATION_GRACE_PERIOD_SECONDS: '' }, alone).gracePeriodKnown, false)
})

t.test('an invalid grace period throws an error with the variable, its unit and the value', async t => {
  for (const bad of ['30s', '-1', '0', '1.5', 'NaN', ' 30', '1e3', '99999999999', '٣']) {
    t.throws(() => detectPlatform({ KUBERNETES_SERVICE_HOST: 'x', TERMINATION_GRACE_PERIOD_SECONDS: bad }, alone), {
      code: 'FST_ERR_SHUTDOWN_ENVIRONMENT',
      message: `Expected the environment variable TERMINATION_GRACE_PERIOD_SECONDS to be a whole number of seconds above 0, got '${bad}'`
    })
  }
  t.throws(() => detectPlatform({ pm_id: '0', kill_timeout: '5s' }, alone), { message: "Expected the environment variable kill_timeout to be a whole number of milliseconds above 0, got '5s'" })
  t.throws(() => detectPlatform({ pm_id: '0', kill_timeout: 'a\r\nb'.padEnd(5_000, 'x') }, alone), { message: /got 'a {2}bx{56}'$/ }, 'one short line')
})
