/** `fastify-shutdown timeline`: reads a file or standard input, and prints text or writes files. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { run } from '../../lib/cli/main'
import { renderHtml } from '../../lib/timeline/html'
import { renderSvg } from '../../lib/timeline/svg'
import { renderText } from '../../lib/timeline/text'
import { typescript } from '../helpers/children'
import { sample, sampleJson } from '../helpers/reports'

const root = join(__dirname, '../..')
const report = join(root, 'docs/images/report.json')

interface Settings {
  readonly input?: string
  readonly columns?: number
  readonly isTTY?: boolean
}

/** Runs the command in this process. */
async function timeline (args: readonly string[], { input, columns, isTTY }: Settings = {}): Promise<{ code: number, stdout: string, stderr: string }> {
  const printed = { stdout: '', stderr: '' }
  const output = (name: keyof typeof printed): object => ({ isTTY, columns, write: (text: string) => { printed[name] += text } })
  const stdin = input === undefined ? { stdin: Object.assign(Readable.from([]), { isTTY: true }) } : { stdin: Readable.from([Buffer.from(input)]) }
  const code = await run(['timeline', ...args], { ...stdin, stdout: output('stdout'), stderr: output('stderr') } as Parameters<typeof run>[1])
  return { code, ...printed }
}

t.test('a file is drawn as text', async t => {
  t.strictSame(await timeline([report]), { code: 0, stdout: renderText(sample), stderr: '' })
})

t.test('without a file, or with -, standard input is drawn', async t => {
  for (const args of [[], ['-']]) t.strictSame(await timeline(args, { input: sampleJson }), { code: 0, stdout: renderText(sample), stderr: '' })
})

t.test('the text has the width of the terminal, and colours only on one', async t => {
  const environment = { NO_COLOR: process.env.NO_COLOR, TERM: process.env.TERM }
  t.teardown(() => { for (const [name, value] of Object.entries(environment)) set(name, value) })
  const set = (name: string, value: string | undefined): void => {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  for (const [NO_COLOR, TERM, isTTY, color] of [
    [undefined, 'xterm', true, true], ['', 'xterm', true, true], ['1', 'xterm', true, false], [undefined, 'dumb', true, false], [undefined, 'xterm', false, false]
  ] as const) {
    set('NO_COLOR', NO_COLOR)
    set('TERM', TERM)
    t.equal((await timeline([report], { columns: 70, isTTY })).stdout, renderText(sample, { width: 70, color }))
  }
})

t.test('a page and a picture are written, and nothing is printed', async t => {
  const dir = t.testdir()
  t.strictSame(await timeline([report, '--html', join(dir, 'a.html'), '--svg', join(dir, 'a.svg')]), { code: 0, stdout: '', stderr: '' })
  t.equal(readFileSync(join(dir, 'a.html'), 'utf8'), renderHtml(sample))
  t.equal(readFileSync(join(dir, 'a.svg'), 'utf8'), renderSvg(sample))
  t.strictSame(readdirSync(dir).sort(), ['a.html', 'a.svg'])
  t.equal((await timeline([report, '--svg', '-'])).stdout, renderSvg(sample))
})

t.test('a file that exists keeps its mode and its links', async t => {
  const dir = t.testdir({ 'real.html': 'old' })
  chmodSync(join(dir, 'real.html'), 0o640)
  symlinkSync('real.html', join(dir, 'link.html'))
  t.equal((await timeline([report, '--html', join(dir, 'link.html')])).code, 0)
  t.equal(readFileSync(join(dir, 'real.html'), 'utf8'), renderHtml(sample))
  t.equal(statSync(join(dir, 'real.html')).mode & 0o777, 0o640)
  t.strictSame(readdirSync(dir).sort(), ['link.html', 'real.html'])
})

t.test('if one file cannot be written, none is changed', async t => {
  const dir = t.testdir({ 'a.html': 'old', folder: {} })
  for (const svg of [join(dir, 'missing/a.svg'), join(dir, 'folder'), join(dir, 'a.html/a.svg')]) {
    const { code, stdout, stderr } = await timeline([report, '--html', join(dir, 'a.html'), '--svg', svg])
    t.strictSame([code, stdout], [2, ''])
    t.match(stderr, /^fastify-shutdown: cannot write .*: E\w+: [a-z ]+\n$/)
    t.equal(readFileSync(join(dir, 'a.html'), 'utf8'), 'old')
    t.strictSame(readdirSync(dir).sort(), ['a.html', 'folder'])
  }
})

t.test('a named pipe is written to, and is not replaced', { skip: process.platform === 'win32' && 'no named pipes' }, async t => {
  const pipe = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [pipe])
  const script = `require('fs').writeFileSync(${JSON.stringify(`${pipe}.out`)}, require('fs').readFileSync(${JSON.stringify(pipe)}))`
  const { spawn } = await import('node:child_process')
  const reader = spawn(process.execPath, ['-e', script], { env: { ...process.env, TAP: '' }, stdio: 'ignore' })
  const ended = new Promise(resolve => reader.once('exit', resolve))
  t.equal((await timeline([report, '--svg', pipe])).code, 0)
  await ended
  t.ok(statSync(pipe).isFIFO())
  t.equal(readFileSync(`${pipe}.out`, 'utf8'), renderSvg(sample))
})

t.test('standard output of the process may be a pipe that has no path', { skip: process.platform !== 'linux' && 'needs /dev/stdout of Linux' }, async t => {
  const script = `require(${JSON.stringify(join(root, 'lib/cli/main.ts'))}).run(process.argv.slice(1), process).then(code => { process.exitCode = code })`
  const command = '"$@" | cat' // A pipe of the shell: that of a child process of Node is a socket, which cannot be opened.
  const { stdout, stderr } = spawnSync('sh', ['-c', command, 'sh', process.execPath, ...typescript, '-e', script, '--', 'timeline', report, '--svg', '/dev/stdout'], {
    encoding: 'utf8', env: { ...process.env, TAP: '' }
  })
  t.equal(stderr, '')
  t.equal(stdout, renderSvg(sample))
})

t.test('without a report the exit code is 2, with one line on stderr', async t => {
  const dir = t.testdir({ 'broken.json': sampleJson.slice(0, -5), 'a\nb.json': '{}' })
  mkdirSync(join(dir, 'folder'))
  writeFileSync(join(dir, 'later.json'), '{"schemaVersion":2,"outcome":"clean","durationMs":1,"phases":[]}')
  for (const [args, input, message] of [
    [['-'], '', 'standard input: the input is empty'],
    [['-'], 'INFO: bye\n', 'standard input: no report of a shutdown found. Expected a report as JSON, or log lines in JSON'],
    [[join(dir, 'broken.json')], undefined, /broken\.json: no report/],
    [[join(dir, 'later.json')], undefined, /later\.json: the last report has a later schemaVersion than 1\. Update fastify-shutdown/],
    [[join(dir, 'folder')], undefined, /folder: EISDIR/],
    [[join(dir, 'missing.json')], undefined, /missing\.json: ENOENT/],
    [[join(dir, 'a\nb.json')], undefined, /a b\.json: no report/]
  ] as const) {
    const html = join(dir, 'a.html')
    const { code, stdout, stderr } = await timeline([...args, '--html', html], input === undefined ? {} : { input })
    t.strictSame([code, stdout, stderr.split('\n').length], [2, '', 2], args[0])
    t.match(stderr, message)
    t.notOk(existsSync(html))
  }
})

t.test('wrong arguments print the usage', async t => {
  for (const [args, message] of [
    [[], /expected a file, or a log on standard input\n\nUsage: fastify-shutdown timeline/],
    [['a', 'b'], /expected one file/],
    [['a', '--html', ''], /expected the name of a file/],
    [['a', '--html'], /argument missing/],
    [['a', '--png', 'b'], /Unknown option '--png'/],
    [[report, '--html', 'x', '--svg', './x'], /expected different files/],
    [[report, '--html', report], /expected different files/]
  ] as const) {
    const { code, stdout, stderr } = await timeline(args)
    t.strictSame([code, stdout], [2, ''])
    t.match(stderr, message)
  }
  t.equal(readFileSync(report, 'utf8'), sampleJson)
})

t.test('in a process, the log of a service is drawn', async t => {
  const script = `require(${JSON.stringify(join(root, 'lib/cli/main.ts'))}).run(process.argv.slice(1), process).then(code => { process.exitCode = code })`
  const input = `> node server.js\n{"level":30,"msg":"listening"}\n{"level":30,"shutdown":${JSON.stringify(JSON.parse(sampleJson))},"msg":"shutdown: forced"}\n`
  const { status, stdout, stderr } = spawnSync(process.execPath, [...typescript, '-e', script, '--', 'timeline'], { input, encoding: 'utf8', env: { ...process.env, TAP: '' } })
  t.strictSame([status, stderr], [0, ''])
  t.equal(stdout, renderText(sample))
})
