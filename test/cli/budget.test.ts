import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { checkBudget, formatTime, type Deployment, type Times } from '../../lib/cli/budget/budget'
import { parseGoDuration } from '../../lib/cli/budget/durations'
import { run } from '../../lib/cli/main'
import { readManifest, readUnit } from '../../lib/cli/budget/manifests'

const pod: Deployment = {
  source: 'pod', platform: 'kubernetes', grace: 75_000, graceName: 'terminationGracePeriodSeconds', preStop: 5_000, environmentGrace: 70_000, readiness: { period: 1_000, threshold: 2 }
}
const app: Deployment = { source: 'app', platform: 'pm2', grace: 65_000, graceName: 'kill_timeout', environmentGrace: 65_000 }

t.test('the rules', async t => {
  /** The findings as `rule severity by`. */
  const found = (deployment: Deployment, times?: Times): string[] => checkBudget(deployment, times).findings.map(({ rule, severity, by }) => `${rule} ${severity} ${by}`)

  t.test('times that fit to the millisecond have no finding', async t => {
    t.strictSame(found(pod), [])
    t.strictSame(checkBudget(pod), { source: 'pod', preStop: 5_000, delay: 15_000, total: 54_000, grace: 75_000, spare: 1_000, findings: [] }, 'a lame-duck that takes its longest time leaves the least total')
    t.strictSame(found(pod, { delay: 5_000, total: 65_000 }), [])
    t.strictSame(found(app), [])
    t.strictSame(found({ source: 'x', platform: 'plain', grace: null, graceName: 'TimeoutStopSec' }), [])
    t.equal(checkBudget({ source: 'x', platform: 'plain', grace: null, graceName: 'TimeoutStopSec' }).spare, null)
  })

  t.test('preStop, delay and total must fit in the grace period one after the other', async t => {
    t.strictSame(found({ ...pod, grace: 69_999 }), ['grace error 4001', 'environment warning 5001'])
    t.strictSame(found({ ...pod, preStop: 20_000 }), ['grace error 14000', 'environment warning 15000'])
    t.equal(checkBudget({ ...pod, grace: 60_000 }).findings[0]?.message,
      'preStop 5 s + delay 15 s + timeouts.total 54 s = 74 s, but terminationGracePeriodSeconds is 60 s: SIGKILL comes 14 s too early')
    t.equal(checkBudget({ ...pod, grace: 60_000 }).spare, -14_000)
    t.strictSame(found({ source: 'x', platform: 'plain', grace: 10_000, graceName: 'stop_grace_period' }), ['grace error 52000'], 'Docker sets no variable, so the plugin shortens nothing')
  })

  t.test('times of the user that exceed the grace period in the environment are an error', async t => {
    t.strictSame(found({ ...pod, environmentGrace: 60_000 }, { total: 60_000 }), ['registration error 5000'])
    t.strictSame(found({ ...app, environmentGrace: 1_000 }, { delay: 900, total: 101 }), ['registration error 1'])
    t.strictSame(found({ ...app, environmentGrace: 1_000 }, { delay: 900, total: 100 }), [])
  })

  t.test('a total that the user did not set is shortened, as the plugin does it', async t => {
    t.strictSame(found({ ...pod, environmentGrace: null, grace: 30_000, preStop: 0 }), ['scaled warning 36000'])
    t.equal(checkBudget({ ...pod, environmentGrace: null, grace: 30_000, preStop: 0 }).total, 14_000, '30 s less the longest delay of 15 s and a second')
    t.strictSame(found({ ...pod, environmentGrace: null, grace: 30_000 }), ['grace error 4000', 'scaled warning 36000'], 'the plugin does not know the preStop hook')
    t.strictSame(found({ ...pod, environmentGrace: null, grace: 20_000, preStop: 0 }), ['grace error 9000', 'scaled warning 36000'], 'without a variable the plugin assumes 30 s')
    t.equal(checkBudget({ ...app, grace: 1_600, environmentGrace: null }).total, 520, '1 600 ms less 1 000 and a twentieth')
    t.strictSame(found({ ...app, grace: 1_600, environmentGrace: null }, { total: 520 }), [])
  })

  t.test('a delay that leaves no time is an error', async t => {
    t.strictSame(found({ ...app, grace: 1_000, environmentGrace: 1_000 }), ['delay error 50'])
    t.strictSame(found({ ...app, grace: 1_600, environmentGrace: null }, { delay: 1_520 }), ['delay error 0'])
    t.strictSame(found({ ...app, grace: 1_600, environmentGrace: null }, { delay: 1_519 }), ['scaled warning 59999'])
  })

  t.test('the grace period in the environment must leave time for preStop', async t => {
    t.strictSame(found({ ...pod, environmentGrace: 75_000 }), ['grace error 4000', 'environment warning 5000'])
    t.match(checkBudget({ ...pod, environmentGrace: 75_000 }).findings[1]?.message, /but preStop \(5 s\) leaves 70 s .* reduce it by 5 s$/)
    t.strictSame(found({ ...pod, environmentGrace: 30_000, grace: 30_000 }), ['grace error 4000', 'scaled warning 36000', 'environment warning 5000'])
  })

  t.test('readiness must fail before lame-duck ends', async t => {
    t.strictSame(found({ ...pod, readiness: { period: 7_500, threshold: 2 } }), ['readiness error 0'], 'the same time is too late')
    t.strictSame(found({ ...pod, readiness: { period: 2_000, threshold: 2 } }), [])
    t.strictSame(found({ ...pod, readiness: { period: 10_000, threshold: 3 } }), ['readiness error 15000'], "Kubernetes' own defaults are too slow")
    t.strictSame(found(pod, { delay: 2_000 }), ['readiness error 0'])
    t.strictSame(found(pod, { delay: 0 }), [], 'after a preStop hook no lame-duck is needed')
    t.strictSame(found({ ...pod, preStop: 0 }, { delay: 0 }), ['readiness error 2000'])
    t.strictSame(found({ ...pod, readiness: null }), ['no-readiness warning null'])
  })

  t.test('times are formatted in seconds or milliseconds', async t => {
    t.strictSame([0, 1, 999, 1_000, 1_600, 75_000].map(formatTime), ['0 s', '1 ms', '999 ms', '1 s', '1.6 s', '75 s'])
  })
})

t.test('the files', async t => {
  const yaml = (content: string) => readManifest('f', parseAllDocuments(content, { merge: true }).map(document => document.toJS()))
  const deployment = (spec: string) => yaml(`apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { template: { spec: ${spec} } }`)

  t.test("a pod has the times of its manifest, and Kubernetes' defaults for the others", async t => {
    t.strictSame(deployment('{ containers: [{ name: a }] }').deployments, [{
      source: 'f: Deployment web, container a', platform: 'kubernetes', grace: 30_000, graceName: 'terminationGracePeriodSeconds', preStop: 0, environmentGrace: null, readiness: null
    }])
    t.match(deployment(`{ terminationGracePeriodSeconds: 70, containers: [{ name: a, readinessProbe: { periodSeconds: 2 }, lifecycle: { preStop: { sleep: { seconds: 5 } } },
      env: [{ name: TERMINATION_GRACE_PERIOD_SECONDS, value: "65" }] }] }`).deployments, [{ grace: 70_000, preStop: 5_000, environmentGrace: 65_000, readiness: { period: 2_000, threshold: 3 } }])
    t.strictSame(deployment('{ containers: [{ name: a, readinessProbe: {} }] }').deployments[0]?.readiness, { period: 10_000, threshold: 3 })
  })

  t.test('a preStop hook that sleeps has a duration; any other one counts as 0 and is listed', async t => {
    const preStop = (command: string) => deployment(`{ containers: [{ name: a, lifecycle: { preStop: { exec: { command: ${command} } } } }] }`)
    for (const command of ['[sleep, "7"]', '[/bin/sleep, 7s]', '[sh, -c, sleep 7]', '[/bin/sh, -c, /usr/bin/sleep 7]']) t.equal(preStop(command).deployments[0]?.preStop, 7_000, command)
    for (const command of ['[./leave]', '[sh, -c, sleep 7 && ./leave]', '[]']) {
      t.equal(preStop(command).deployments[0]?.preStop, 0, command)
      t.match(preStop(command).skipped, [/the duration of its preStop hook is unknown/])
    }
  })

  t.test('a variable whose value is in another object counts as not set and is listed', async t => {
    const { deployments, skipped } = deployment('{ containers: [{ name: a, env: [{ name: TERMINATION_GRACE_PERIOD_SECONDS, valueFrom: { configMapKeyRef: { name: x, key: y } } }] }] }')
    t.match(deployments, [{ environmentGrace: null }])
    t.strictSame(skipped, ['f: Deployment web, container a: the value of TERMINATION_GRACE_PERIOD_SECONDS is in another object, and counts as not set'])
  })

  t.test('every kind with a server is read, in several documents and in lists; others are skipped', async t => {
    const spec = '{ containers: [{ name: a }] }'
    const { deployments } = yaml(`
      { apiVersion: v1, kind: Pod, metadata: { name: one }, spec: ${spec} }
---
      { apiVersion: v1, kind: Service, metadata: { name: web } }
---
---
      { apiVersion: batch/v1, kind: Job, spec: { template: { spec: ${spec} } } }
---
      { apiVersion: v1, kind: List, items: [{ apiVersion: apps/v1, kind: StatefulSet, metadata: { name: two }, spec: { template: { spec: ${spec} } } }] }`.replace(/^ +/gm, ''))
    t.strictSame(deployments.map(({ source }) => source), ['f: Pod one, container a', 'f: StatefulSet two, container a'])
    t.match(yaml('{ apiVersion: apps/v1, kind: Deployment, metadata: { name: web }, spec: { replicas: 2 } }').skipped, [/has no containers/])
  })

  t.test('a PM2 ecosystem is read in each of its forms', async t => {
    const expected = { source: 'f: PM2 app a', platform: 'pm2', grace: 5_000, graceName: 'kill_timeout', environmentGrace: 5_000 }
    const one = { name: 'a', script: 'a.js', kill_timeout: 5_000 }
    for (const shape of [{ apps: [one] }, { apps: one }, [one], one]) t.strictSame(readManifest('f', [shape]).deployments, [expected])
    t.match(readManifest('f', [{ script: 'a.js' }]).deployments, [{ source: 'f: PM2 app a.js', grace: 1_600, environmentGrace: null }])
    t.match(readManifest('f', [{ script: 'a.js', kill_timeout: 0 }]).deployments, [{ grace: 1_600, environmentGrace: null }])
  })

  t.test('a compose file is read; a database beside the service is skipped', async t => {
    const { deployments, skipped } = yaml('services: { web: { build: ., stop_grace_period: 1m30s }, redis: { image: redis } }')
    t.strictSame(deployments, [{ source: 'f: service web', platform: 'plain', grace: 90_000, graceName: 'stop_grace_period' }])
    t.strictSame(skipped, ['f: service redis has neither build nor stop_grace_period'])
    t.match(yaml('services: { web: { image: web } }').deployments, [{ grace: 10_000 }], "Docker's default")
    t.match(yaml('x-all: &all { stop_grace_period: 500ms }\nservices: { web: { <<: *all } }').deployments, [{ grace: 500 }])
  })

  t.test('a unit is read with its time spans, and the last setting counts', async t => {
    const unit = (lines: string) => readUnit('f', `[Unit]\nTimeoutStopSec=1\n[Service]\nType=notify\n${lines}\n[Install]\nTimeoutStopSec=2\n`).deployments[0]
    t.strictSame(unit(''), { source: 'f: unit', platform: 'systemd', grace: 90_000, graceName: 'TimeoutStopSec' })
    for (const [lines, grace] of [
      ['TimeoutStopSec=75', 75_000], ['TimeoutStopSec = 1min 30s', 90_000], ['TimeoutStopSec=2.5s', 2_500], ['TimeoutStopSec=500ms', 500], ['TimeoutStopSec=infinity', null],
      ['TimeoutStopSec=0', null], ['TimeoutSec=20', 20_000], ['TimeoutStopSec=5\nTimeoutSec=20', 20_000], ['TimeoutStopSec=5\nTimeoutStopSec=', 90_000],
      ['; TimeoutStopSec=5\n# TimeoutStopSec=6', 90_000], ['ExecStart=/bin/x \\\nTimeoutStopSec=5', 90_000]
    ] as const) t.equal(unit(lines)?.grace, grace, lines)
    t.equal(readUnit('f', '[Service]\nType=exec').deployments[0]?.platform, 'plain', 'without Type=notify the plugin does not detect systemd')
  })

  t.test('an invalid value throws an error with the file and the field', async t => {
    t.throws(() => deployment('{ terminationGracePeriodSeconds: soon, containers: [{ name: a }] }'), { message: "f: expected terminationGracePeriodSeconds to be a number >= 0, got 'soon' (string)" })
    t.throws(() => readManifest('f', [{ apps: [{ kill_timeout: '5s' }] }]), { message: /f: expected kill_timeout/ })
    t.throws(() => yaml('services: { web: { stop_grace_period: 1 fortnight } }'), { message: /f: expected stop_grace_period to be a duration/ })
    t.throws(() => readUnit('f', '[Service]\nTimeoutStopSec=soon'), { message: /f: expected TimeoutStopSec to be a time span/ })
    t.throws(() => readUnit('f', '[Unit]'), { message: /the unit has no \[Service\] section/ })
    for (const document of ['text', 7, {}, { services: 3 }]) t.throws(() => readManifest('f', [document]), { message: /^f: neither a Kubernetes manifest/ })
  })
})

t.test('hostile text of 100 000 characters is read in less than a second', async t => {
  const length = 100_000
  /** Text that a regular expression with nested repetitions tries to divide in every possible way. */
  const hostile: Record<string, string> = {
    digits: `${'9'.repeat(length)}!`,
    'digits that are valid': '9'.repeat(length),
    'digits with points': `${'1.1'.repeat(length / 3)}!`,
    parts: `${'1m '.repeat(length / 3)}!`,
    'white space': `1${' '.repeat(length)}!`,
    letters: `1${'a'.repeat(length)}!`,
    slashes: `${'/'.repeat(length)}!`,
    shells: 'sh -c '.repeat(length / 6),
    brackets: '['.repeat(length),
    'equals signs': ' = '.repeat(length / 3)
  }
  for (const [name, text] of Object.entries(hostile)) {
    const began = performance.now()
    t.equal(parseGoDuration(text), null, `${name} are no duration`)
    t.throws(() => readUnit('f', `[Service]\nTimeoutStopSec=${text}`), { message: /^f: expected TimeoutStopSec to be .{1,200}$/ })
    t.equal(readUnit('f', `[Service]\n${text}\nTimeoutStopSec${text.replace(/\S/g, ' ')}=5s`).deployments[0]?.grace, 5_000)
    t.equal(readUnit('f', `[${text.replace(/\n/g, '')}\n[Service]\nTimeoutStopSec=5s`).deployments[0]?.grace, 5_000)
    const container = { name: 'a', lifecycle: { preStop: { exec: { command: ['sleep', text] } } } }
    t.doesNotThrow(() => readManifest('f', [{ apiVersion: 'v1', kind: 'Pod', spec: { containers: [container] } }]))
    t.throws(() => readManifest('f', [{ services: { web: { stop_grace_period: text } } }]), { message: /^f: expected stop_grace_period .{1,200}$/ })
    t.throws(() => readManifest('f', [[{ kill_timeout: text }]]), { message: /^f: expected kill_timeout .{1,200}$/ })
    t.ok(performance.now() - began < 1_000, `${name}: ${Math.round(performance.now() - began)} ms`)
  }
})

t.test('the command', { timeout: 60_000 }, async t => {
  const root = join(__dirname, '../..')
  const typescript = process.execArgv.filter(argument => argument.includes('@tapjs/typescript'))

  function command (args: readonly string[], { cwd = root, input = '' } = {}): Promise<{ code: number | null, stdout: string, stderr: string }> {
    return new Promise(resolve => {
      // The same as bin/fastify-shutdown.js, with the sources.
      const script = `require(${JSON.stringify(join(root, 'lib/cli/main.ts'))}).run(process.argv.slice(1), process).then(code => { process.exitCode = code })`
      const child = execFile(process.execPath, [...typescript, '-e', script, '--', ...args], { cwd }, (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }))
      child.stdin?.end(input)
    })
  }

  t.test('the times of everything in deploy/ fit', async t => {
    const { code, stdout, stderr } = await command(['budget', 'deploy/kubernetes/base/deployment.yaml', 'deploy/pm2/ecosystem.config.cjs', 'deploy/systemd/fastify-service.service', 'deploy/docker/compose.yaml'])
    t.equal(stderr, '')
    t.equal(stdout, `deploy/kubernetes/base/deployment.yaml: Deployment service, container service
  preStop 5 s + delay 15 s + timeouts.total 60 s = 80 s, of 85 s: 5 s to spare

deploy/pm2/ecosystem.config.cjs: PM2 app service
  delay 1 s + timeouts.total 60 s = 61 s, of 65 s: 4 s to spare

deploy/systemd/fastify-service.service: unit
  delay 2 s + timeouts.total 60 s = 62 s, of 75 s: 13 s to spare

deploy/docker/compose.yaml: service service
  delay 2 s + timeouts.total 60 s = 62 s, of 65 s: 3 s to spare

skipped deploy/docker/compose.yaml: service postgres has neither build nor stop_grace_period

skipped deploy/docker/compose.yaml: service redis has neither build nor stop_grace_period
`)
    t.equal(code, 0)
  })

  t.test('times that do not fit are listed, and the exit code is 1', async t => {
    const { code, stdout } = await command(['budget', 'deploy/kubernetes/base/deployment.yaml', '--delay', '20000', '--total', '62000'])
    t.equal(code, 1)
    t.equal(stdout, `deploy/kubernetes/base/deployment.yaml: Deployment service, container service
  preStop 5 s + delay 20 s + timeouts.total 62 s = 87 s, of 85 s: 2 s too long
  error: preStop 5 s + delay 20 s + timeouts.total 62 s = 87 s, but terminationGracePeriodSeconds is 85 s: SIGKILL comes 2 s too early
  error: delay 20 s + timeouts.total 62 s exceeds the grace period in the environment (80 s) by 2 s: the plugin will not start
`)
  })

  t.test('a warning alone is exit code 0, and --json prints JSON', async t => {
    const { code, stdout } = await command(['budget', '-', '--json'], { input: '{ "apps": [{ "name": "a", "script": "a.js" }] }' })
    t.equal(code, 0)
    t.match(JSON.parse(stdout), { skipped: [], budgets: [{ source: '-: PM2 app a', delay: 1_000, total: 520, spare: 80, findings: [{ rule: 'scaled', severity: 'warning', by: 59_480 }] }] })
  })

  t.test('without a file, the files with a usual name are checked', async t => {
    const cwd = t.testdir({ 'compose.yaml': 'services: { web: { build: . } }', 'ecosystem.config.js': "module.exports = { apps: [{ name: 'a', script: 'a.js', kill_timeout: 62000 }] }" })
    writeFileSync(join(cwd, 'package.json'), '{}')
    const { code, stdout } = await command(['budget'], { cwd })
    t.equal(code, 1)
    t.match(stdout, /^ecosystem\.config\.js: PM2 app a\n.* 1 s to spare\n\ncompose\.yaml: service web\n.* 52 s too long\n/)
  })

  t.test('a check that fails is exit code 2, with a message on stderr', async t => {
    const dir = t.testdir({
      empty: {},
      'throws.cjs': "throw new Error('boom')",
      'kustomization.yaml': '{ apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization }',
      'bomb.yaml': `a: &a [x]\n${['ba', 'cb', 'dc', 'ed', 'fe'].map(([name, of]) => `${name}: &${name} [${Array(9).fill(`*${of}`)}]`).join('\n')}`,
      'chart.yaml': '{{- if .Values.web }}\nkind: Deployment\n{{- end }}',
      'service.yaml': '{ apiVersion: v1, kind: Service }'
    })
    t.match(await command(['budget'], { cwd: join(dir, 'empty') }), { code: 2, stdout: '', stderr: /expected a file: this directory has none with a usual name\n\nUsage: / })
    for (const [args, message] of [
      [[], /expected a command\n\nUsage: /],
      [['bugdet'], /unknown command 'bugdet'\n\nUsage: /],
      [['budget', '--delay', '5s', 'x'], /expected --delay to be a whole number of milliseconds from 0 to 2147483647, got '5s'\n\nUsage: /],
      [['budget', '--total', '0', 'x'], /expected --total to be a whole number of milliseconds from 1 to 2147483647, got '0'\n\nUsage: /],
      [['budget', '--total', '2147483648', 'x'], /expected --total to be .* got '2147483648'/],
      [['budget', '--wait'], /Unknown option '--wait'[^]*\n\nUsage: /],
      [['budget', 'no-such-file.yaml'], /ENOENT.*no-such-file\.yaml/],
      [['budget', join(dir, 'chart.yaml')], /chart\.yaml: .*\(render a template first\)/s],
      [['budget', dir], / is a directory: check its output, kubectl kustomize .* \| fastify-shutdown budget -\n$/],
      [['budget', join(dir, 'kustomization.yaml')], /nothing to check: the files contain no workload\n.*kustomization\.yaml is a Kustomization: check its output/],
      [['budget', join(dir, 'throws.cjs')], /throws\.cjs: boom\n$/],
      [['budget', join(dir, 'bomb.yaml')], /bomb\.yaml: Excessive alias count/],
      [['budget', join(dir, 'service.yaml')], /nothing to check: the files contain no workload/]
    ] as ReadonlyArray<[string[], RegExp]>) {
      const terminal = { stdout: { write: () => t.fail('a result is printed') }, stderr: { write: (text: string) => t.match(text, message) } }
      t.equal(await run(args, terminal), 2, args.join(' ') || 'nothing')
    }
  })

  t.test('--help prints the usage', async t => {
    t.match(await command(['--help']), { code: 0, stdout: /^Usage: fastify-shutdown <command>.*\n\nbudget +checks/ })
    t.match(await command(['budget', '--help']), { code: 0, stdout: /^Usage: fastify-shutdown budget \[FILE…\]/ })
  })
})
