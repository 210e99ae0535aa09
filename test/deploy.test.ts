/** The platforms accept the files in deploy/, and these contain what the plugin needs. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { checkBudget } from '../lib/cli/budget/budget'
import { readManifest } from '../lib/cli/budget/manifests'
import { connect, get } from './helpers/client'
import { run, translate } from './helpers/children'
import { translatedPackage } from './helpers/example-service'
import { findServer, freePort, unless } from './helpers/services'
import { nginxArguments } from './helpers/nginx'
import { apacheArguments } from './helpers/apache'
import { caddyEnvironment } from './helpers/caddy'

const deploy = join(__dirname, '../deploy')
const kubernetes = join(deploy, 'kubernetes')
const read = (...path: string[]): string => readFileSync(join(deploy, ...path), 'utf8')

interface Manifest {
  readonly kind: string
  readonly metadata: { readonly name: string }
  readonly spec: any // any: each kind has its own properties, which kubernetes-models checks
}

/** Reads manifests strictly: a duplicate key is an error. */
function manifests (text: string): Manifest[] {
  return parseAllDocuments(text).map(document => {
    if (document.errors[0] !== undefined) throw document.errors[0]
    return document.toJS()
  })
}

/** @throws if Kubernetes' own schema rejects it */
async function validate (manifest: Manifest): Promise<void> {
  // Imported here: the package is an ES module.
  const [{ Deployment }, { Service }, { PodDisruptionBudget }] = await Promise.all([
    import('kubernetes-models/apps/v1/Deployment'), import('kubernetes-models/v1/Service'), import('kubernetes-models/policy/v1/PodDisruptionBudget')
  ])
  const models: Record<string, new (data: any) => { validate(): void }> = { Deployment, Service, PodDisruptionBudget } // any: the model checks it
  const Model = models[manifest.kind]
  if (Model === undefined) throw new Error(`No model for ${manifest.kind}`)
  new Model(manifest).validate()
}

/** Skips the rest of a test if the program is missing; with REQUIRE_SERVICES=1 the test fails. */
function has (t: Test, program: string, args: readonly string[]): boolean {
  if (spawnSync(program, args).error === undefined) return true
  const line = `install ${program} to run this`
  if (process.env.REQUIRE_SERVICES === '1') t.fail(line)
  else t.pass(line, { skip: line })
  return false
}

t.test("Kubernetes' schema accepts every manifest, and rejects a wrong one", async t => {
  const files = readdirSync(kubernetes, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.yaml') && !file.endsWith('kustomization.yaml'))
  t.ok(files.length >= 4)
  for (const file of files) {
    for (const manifest of manifests(readFileSync(join(kubernetes, file), 'utf8'))) await t.resolves(validate(manifest), file)
  }
  const [wrong] = manifests(read('kubernetes/base/deployment.yaml').replace('seconds: 5', 'seconds: five'))
  await t.rejects(validate(wrong!), { message: /seconds/ })
})

t.test('the rolling update removes no pod before its successor is ready', async t => {
  const [deployment] = manifests(read('kubernetes/base/deployment.yaml'))
  const { strategy, template } = deployment!.spec
  t.strictSame(strategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } })
  const [container] = template.spec.containers
  t.match(container, {
    lifecycle: { preStop: { sleep: { seconds: Number } } },
    livenessProbe: { httpGet: { path: '/health/live' } },
    readinessProbe: { httpGet: { path: '/health/ready' } },
    startupProbe: { httpGet: { path: '/health/startup' } }
  })
  const variable = container.env.find(({ name }: { name: string }) => name === 'TERMINATION_GRACE_PERIOD_SECONDS').value
  t.equal(Number(variable) + container.lifecycle.preStop.sleep.seconds, template.spec.terminationGracePeriodSeconds, 'the variable and preStop add up to the grace period')
})

t.test('kustomize renders every variant, and its times fit', async t => {
  if (!has(t, 'kubectl', ['version', '--client'])) return
  const render = (variant: string): Manifest[] => manifests(execFileSync('kubectl', ['kustomize', join(kubernetes, variant)], { encoding: 'utf8' }))
  const names = (rendered: Manifest[]): string[] => rendered.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()
  const get = (rendered: Manifest[], kind: string, name: string): Manifest => rendered.find(manifest => manifest.kind === kind && manifest.metadata.name === name)!
  /** Whether a selector matches these labels. */
  const picks = (selector: Record<string, string>, labels: Record<string, string>): boolean => Object.entries(selector).every(([name, value]) => labels[name] === value)
  const labels = (deployment: Manifest): Record<string, string> => deployment.spec.template.metadata.labels

  const variants = { base: render('base'), 'blue-green': render('blue-green'), canary: render('canary') }
  for (const [variant, rendered] of Object.entries(variants)) {
    for (const manifest of rendered) {
      await t.resolves(validate(manifest), `${variant}: ${manifest.kind} ${manifest.metadata.name}`)
    }
    const { deployments, skipped } = readManifest(variant, rendered)
    t.strictSame(skipped, [])
    for (const deployment of deployments) t.strictSame(checkBudget(deployment).findings, [], deployment.source)
    const workloads = rendered.filter(({ kind }) => kind === 'Deployment')
    t.equal(deployments.length, workloads.length)
    for (const one of workloads) {
      t.strictSame(workloads.filter(other => picks(one.spec.selector.matchLabels, labels(other))), [one], 'no Deployment selects the pods of another one')
    }
  }

  t.strictSame(names(variants['blue-green']), [
    'Deployment service-blue', 'Deployment service-green', 'PodDisruptionBudget service-blue', 'PodDisruptionBudget service-green',
    'Service service', 'Service service-blue', 'Service service-green'
  ])
  const live = get(variants['blue-green'], 'Service', 'service').spec.selector
  t.ok(picks(live, labels(get(variants['blue-green'], 'Deployment', 'service-blue'))))
  t.notOk(picks(live, labels(get(variants['blue-green'], 'Deployment', 'service-green'))), 'green receives no live traffic before the switch')

  t.strictSame(names(variants.canary), ['Deployment service', 'Deployment service-canary', 'PodDisruptionBudget service', 'Service service'])
  const shared = get(variants.canary, 'Service', 'service').spec.selector
  const [stable, canary] = ['service', 'service-canary'].map(name => get(variants.canary, 'Deployment', name))
  t.ok(picks(shared, labels(stable!)) && picks(shared, labels(canary!)), 'both tracks share the traffic')
  t.equal(canary!.spec.replicas, 1)
  t.not(canary!.spec.template.spec.containers[0].image, stable!.spec.template.spec.containers[0].image)
})

t.test('the image runs node as PID 1, not as root, and stops by SIGTERM', async t => {
  const lines = read('docker/Dockerfile').split('\n').filter(line => /^[A-Z]+ /.test(line))
  const last = lines.slice(lines.findLastIndex(line => line.startsWith('FROM ')))
  t.strictSame(last.filter(line => /^(CMD|ENTRYPOINT|STOPSIGNAL|USER) /.test(line)), ['USER 1000:1000', 'STOPSIGNAL SIGTERM', 'CMD ["node", "dist/examples/service/main.js"]'])
  t.notOk(last.some(line => line.startsWith('RUN ')), 'the last stage contains no build')
  const services: Record<string, { stop_grace_period?: string }> = parse(read('docker/compose.yaml')).services
  t.equal(services.service?.stop_grace_period, '1m5s')
})

t.test('the unit waits for READY=1 from a child process, and sends SIGTERM to node alone', async t => {
  const unit = read('systemd/fastify-service.service').split('\n')
  for (const line of ['Type=notify', 'NotifyAccess=all', 'KillMode=mixed', 'TimeoutStopSec=75']) t.ok(unit.includes(line), line)
  if (!has(t, 'systemd-analyze', ['--version'])) return
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', join(deploy, 'systemd/fastify-service.service')], { encoding: 'utf8' })
  // The machine's other units do not matter, nor whether node has the same path as on a server.
  const ours = stderr.split('\n').filter(line => line.includes('fastify-service.service') && !line.includes('is not executable'))
  t.strictSame(ours, [], `status ${status}`)
})

t.test('the PM2 ecosystem waits for ready, and its kill_timeout is longer than a shutdown', async t => {
  const { apps: [app] } = require('../deploy/pm2/ecosystem.config.cjs')
  t.match(app, { exec_mode: 'cluster', wait_ready: true, listen_timeout: 20_000, kill_timeout: 65_000, shutdown_with_message: false })
})

t.test('nginx accepts its configuration', async t => {
  if (!has(t, 'nginx', ['-v'])) return
  const check = (config: string): { status: number | null, stderr: string } => spawnSync('nginx', ['-t', '-q', ...nginxArguments(config, t.testdir({}))], { encoding: 'utf8' })
  const config = read('nginx/nginx.conf')
  const { status, stderr } = check(config)
  t.equal(status, 0, stderr)
  t.not(check(config.replace('proxy_pass', 'proxy_passes')).status, 0, 'nginx rejects a wrong one')
})

t.test('HAProxy accepts its configuration, without a warning', async t => {
  if (!has(t, 'haproxy', ['-v'])) return
  const { status, stderr } = spawnSync('haproxy', ['-c', '-q', '-dW', '-f', join(deploy, 'haproxy/haproxy.cfg')], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
})

t.test('Caddy accepts its configuration, and formats it in the same way', async t => {
  if (!has(t, 'caddy', ['version'])) return
  const home = t.testdir({})
  const caddy = (...args: string[]): { status: number | null, stdout: string, stderr: string } => spawnSync('caddy', args, { encoding: 'utf8', env: caddyEnvironment(home) })
  const file = join(deploy, 'caddy/Caddyfile')
  const { status, stderr } = caddy('validate', '--adapter', 'caddyfile', '--config', file)
  t.equal(status, 0, stderr)
  t.notMatch(stderr, '"level":"warn"')
  const wrong = join(home, 'Caddyfile')
  writeFileSync(wrong, read('caddy/Caddyfile').replace('health_uri', 'health_url'))
  t.not(caddy('validate', '--adapter', 'caddyfile', '--config', wrong).status, 0, 'Caddy rejects a wrong one')
})

t.test('Apache accepts its configuration, with no other modules than those that it names', async t => {
  if (!has(t, 'apache2', ['-v'])) return
  const check = (config: string): { status: number | null, stderr: string } => spawnSync('apache2', ['-t', ...apacheArguments(config, t.testdir({}))], { encoding: 'utf8' })
  const config = read('apache/service.conf')
  const { status, stderr } = check(config)
  t.equal(status, 0, stderr)
  t.equal(stderr.trim(), 'Syntax OK')
  t.not(check(config.replace('hcmethod=', 'hcmethods=')).status, 0, 'Apache rejects a wrong one')
  t.not(check(config.replace(' proxy_hcheck ', ' ')).status, 0, 'each module is needed')
})

void findServer('postgres').then(postgres => t.test('the service in the image answers the probes of its manifests and of the proxies, on every address', unless('postgres', postgres !== undefined), async t => {
  const { user = 'postgres', password = 'postgres', host, port: database } = postgres!
  const [manifest] = manifests(read('kubernetes/base/deployment.yaml'))
  const [container] = manifest!.spec.template.spec.containers
  const port = await freePort()
  const directory = translate(t.testdir({ keys: 'k'.repeat(32), 'package.json': translatedPackage }), ['lib', 'examples/service'])
  const service = run(t, {
    args: [join(directory, 'examples/service/main.js')],
    env: {
      ...imageEnvironment(),
      ...Object.fromEntries(container.env.map(({ name, value }: { name: string, value?: string }) => [name, value]).filter(([, value]: [string, string?]) => value !== undefined)),
      KUBERNETES_SERVICE_HOST: '10.0.0.1',
      DATABASE_URL: `postgres://${user}:${password}@${host}:${database}/postgres`,
      JWT_KEYS_FILE: join(directory, 'keys'),
      PORT: String(port)
    }
  })
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: service.process.stdout! }).on('line', line => { if (line.includes('Server listening')) resolve() })
    void service.ended.then(({ stderr }) => reject(new Error(`The service ended before it listened: ${stderr}`)))
  })
  t.match(service.lines.find(line => line.includes('graceful shutdown is ready')), /"platform":"kubernetes","delay":\{"min":5000,"max":15000,"quiet":1000\},"gracePeriod":80000/)
  const checked = [
    /^ *http-check send meth GET uri (\S+)/m.exec(read('haproxy/haproxy.cfg')),
    /^\s*health_uri (\S+)/m.exec(read('caddy/Caddyfile')),
    / hcuri=(\S+)/.exec(read('apache/service.conf'))
  ].map(found => found![1]!)
  for (const path of [...checked, ...[container.startupProbe, container.readinessProbe, container.livenessProbe].map(probe => probe.httpGet.path as string)]) {
    // A server that listens on 127.0.0.1 only has no other address.
    const client = await connect(port, '127.0.0.2')
    client.send(get(path))
    t.equal((await client.answer()).status, 200, path)
    client.socket.destroy()
  }
}))

/** The environment variables of the Dockerfile's last stage. */
function imageEnvironment (): Record<string, string> {
  const last = read('docker/Dockerfile').split(/^FROM /m).at(-1)!
  return Object.fromEntries([...last.matchAll(/^ENV (.*)$/mg)].flatMap(([, pairs]) => pairs!.split(' ').map(pair => pair.split('='))))
}
