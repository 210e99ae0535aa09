/** Arguments, traffic files and OpenAPI documents. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseArguments } from '../../../lib/cli/drill/arguments'
import { addressesOf } from '../../../lib/cli/drill/hosts'
import { pathsOf } from '../../../lib/cli/drill/openapi'
import { parsePlan, readPlan } from '../../../lib/cli/drill/plan'

t.test('the defaults', async t => {
  t.strictSame(parseArguments(['--', 'node', 'server.js', '--port', '1']), {
    command: ['node', 'server.js', '--port', '1'],
    url: null,
    pid: null,
    pidFile: null,
    allowedHosts: [],
    signal: 'SIGTERM',
    readyMs: 30_000,
    beforeMs: 2_000,
    graceMs: 30_000,
    lost: 0,
    restarts: 1,
    plan: { requests: [], sse: [], ws: [], rate: 200, connections: 8 },
    json: false,
    html: null,
    junit: null,
    markdown: null
  })
})

t.test('every option', async t => {
  const options = parseArguments([
    '--url', '127.0.0.1:3000/x', '--ready', '5', '--signal', 'int', '--restarts', '3', '--allow-host', 'a', '--allow-host', 'b',
    '--path', '/a', '--path', '/b?c', '--method', 'post', '--body', '{"a":1}', '--rate', '50', '--connections', '2', '--sse', '/s', '--ws', '/w',
    '--before', '0.5', '--grace', '2.5', '--lost', '1', '--json', '--html', 'a.html', '--junit', 'a.xml', '--markdown', 'a.md', '--', 'x'
  ])
  t.match(options, {
    url: new URL('http://127.0.0.1:3000/x'),
    signal: 'SIGINT',
    readyMs: 5_000,
    restarts: 3,
    allowedHosts: ['a', 'b'],
    beforeMs: 500,
    graceMs: 2_500,
    lost: 1,
    json: true,
    html: 'a.html',
    junit: 'a.xml',
    markdown: 'a.md'
  })
  const request = { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } }
  t.strictSame(options.plan, {
    requests: [{ ...request, path: '/a' }, { ...request, path: '/b?c' }], sse: ['/s'], ws: ['/w'], rate: 50, connections: 2
  })
  t.match(parseArguments(['--body', 'text', '--', 'x']).plan.requests, [{ method: 'GET', path: '/', headers: { 'content-type': 'text/plain' } }])
  t.match(parseArguments(['--url', 'http://[::1]:1', '--pid', '7']), { command: null, pid: 7 })
  t.match(parseArguments(['--pid-file', 'x', '--restarts', '2']), { pidFile: 'x', restarts: 2 })
})

t.test('wrong arguments', async t => {
  const wrong: ReadonlyArray<readonly [args: readonly string[], message: RegExp]> = [
    [[], /^expected a command after --$/],
    [['--'], /^expected a command after --$/],
    [['node', 'server.js'], /^unexpected argument 'node': the command comes after --$/],
    [['--url', 'http://localhost'], /^--url needs a command after --, --pid or --pid-file$/],
    [['--pid', '1', '--', 'x'], /^expected a command, or --pid, but not both$/],
    [['--pid', '1', '--pid-file', 'x'], /^expected --pid or --pid-file/],
    [['--pid', '1', '--restarts', '2'], /needs --pid-file/],
    [['--pid', '0'], /^expected --pid to be a whole number from 1 to 2147483647, got '0'$/],
    [['--signal', 'KILL', '--', 'x'], /^no server can handle SIGKILL$/],
    [['--signal', 'SIGTEM', '--', 'x'], /^unknown signal 'SIGTEM'. Did you mean 'SIGTERM'\?$/],
    [['--grace', '0', '--', 'x'], /^expected --grace to be seconds from 0.1 to 86400, got '0'$/],
    [['--ready', '1m', '--', 'x'], /^expected --ready/],
    [['--lost', '-1', '--', 'x'], /ambiguous|^expected --lost/],
    [['--rate', '0', '--', 'x'], /^expected --rate to be a whole number from 1 to 5000, got '0'$/],
    [['--path', 'a', '--', 'x'], /^expected --path to be a path that begins with '\/', got "a"$/],
    [['--path', '/a b', '--', 'x'], /^expected --path/],
    [['--path', '/\r\nx: y', '--', 'x'], /^expected --path/],
    [['--method', 'GET /', '--', 'x'], /^expected --method/],
    [['--method', 'CONNECT', '--', 'x'], /^expected --method/],
    [['--url', 'ftp://x', '--', 'x'], /^expected --url to be a URL/],
    [['--html', 'no/such/directory/x.html', '--', 'x'], /^--html: there is no directory/],
    [['--junit', '.', '--', 'x'], /^--junit: '.' is a directory$/],
    [['--', ''], /^expected a command after --$/],
    [['--html', 'x', '--junit', './x', '--', 'x'], /^expected --html, --junit and --markdown to be different files$/],
    [['--traffic', 'no-such-file', '--', 'x'], /^cannot read no-such-file: ENOENT$/]
  ]
  for (const [args, message] of wrong) t.throws(() => parseArguments(args), { message }, args.join(' '))
})

t.test('a traffic file', async t => {
  t.strictSame(parsePlan({
    requests: [{ path: '/a' }, { method: 'post', path: '/b', body: { x: 1 }, headers: { 'X-A': '1' }, weight: 2 }, { path: '/c', body: 'text' }],
    sse: ['/s'],
    rate: 10
  }), {
    requests: [
      { method: 'GET', path: '/a', headers: {} },
      ...Array(2).fill({ method: 'POST', path: '/b', headers: { 'content-type': 'application/json', 'X-A': '1' }, body: '{"x":1}' }),
      { method: 'GET', path: '/c', headers: {}, body: 'text' }
    ],
    sse: ['/s'],
    ws: [],
    rate: 10
  })
  const wrong: ReadonlyArray<readonly [value: unknown, message: string]> = [
    [[], 'expected the file to be an object, got []'],
    [{ request: [] }, "the file has an unknown member 'request'. Did you mean 'requests'?"],
    [{ requests: {} }, 'expected requests to be an array, got {}'],
    [{ requests: [{}] }, "expected requests[0].path to be a path that begins with '/', got undefined"],
    [{ requests: [{ path: '/', weight: 0 }] }, 'expected requests[0].weight to be a whole number from 1 to 100, got 0'],
    [{ requests: [{ path: '/', headers: { 'a b': 'c' } }] }, 'expected requests[0].headers to be names of headers, got "a b"'],
    [{ requests: [{ path: '/', headers: { a: 'c\r\nd: e' } }] }, 'expected requests[0].headers.a to be text, got "c\\r\\nd: e"'],
    [{ ws: [1] }, "expected ws[0] to be a path that begins with '/', got 1"],
    [{ connections: 0.5 }, 'expected connections to be a whole number from 1 to 1000, got 0.5']
  ]
  for (const [value, message] of wrong) t.throws(() => parsePlan(value), { message }, message)
})

t.test('arguments override the traffic file', async t => {
  const file = join(t.testdir(), 'traffic.json')
  writeFileSync(file, JSON.stringify({ requests: [{ path: '/file' }], rate: 10, connections: 3, ws: ['/w'] }))
  const paths = (...args: string[]): unknown => {
    const { plan } = parseArguments(['--traffic', file, ...args, '--', 'x'])
    return [plan.requests.map(({ path }) => path), plan.rate, plan.connections, plan.ws]
  }
  t.strictSame(paths(), [['/file'], 10, 3, ['/w']])
  t.strictSame(paths('--path', '/line', '--rate', '20'), [['/line'], 20, 3, ['/w']])
  writeFileSync(file, '{ broken')
  t.throws(() => readPlan(file), { message: /traffic\.json: .*JSON/ })
})

t.test('an OpenAPI document', async t => {
  const document = {
    openapi: '3.1.0',
    servers: [{ url: 'https://example.com/api/' }],
    components: { parameters: { needed: { name: 'a', in: 'query', required: true }, free: { name: 'b', in: 'query' } } },
    paths: {
      '/plain': { get: {} },
      '/optional': { parameters: [{ $ref: '#/components/parameters/free' }], get: { parameters: [{ name: 'x', in: 'query' }] } },
      '/required': { get: { parameters: [{ $ref: '#/components/parameters/needed' }] } },
      '/of/the/path': { parameters: [{ name: 'x', in: 'header', required: true }], get: {} },
      '/items/{id}': { get: {} },
      '/stream': { get: { responses: { 200: { content: { 'text/event-stream': {} } } } } },
      '/only/post': { post: {} },
      '/bad path': { get: {} }
    }
  }
  t.strictSame(pathsOf(JSON.stringify(document)), ['/api/plain', '/api/optional'])
  t.strictSame(pathsOf(JSON.stringify({ swagger: '2.0', basePath: '/v1', paths: { '/a': { get: {} }, '/b': { get: { produces: ['text/event-stream'] } } } })), ['/v1/a'])
  for (const text of ['', '{', 'null', '[]', '{"paths":[]}', '{"paths":{"/":null,"/a":{"get":{"parameters":[null,{"$ref":"#/a/b"}]}}}}', '{"servers":[{"url":"{x}"}]}']) {
    t.doesNotThrow(() => pathsOf(text), text)
  }
  t.equal(pathsOf(JSON.stringify({ paths: Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`/${i}`, { get: {} }])) })).length, 20)
})

t.test('only this machine is reached, and hosts that are allowed by name', async t => {
  t.strictSame(await addressesOf(new URL('http://127.0.0.2:8080'), []), [{ host: '127.0.0.2', port: 8080 }])
  t.strictSame(await addressesOf(new URL('http://[::1]'), []), [{ host: '::1', port: 80 }])
  t.strictSame(await addressesOf(new URL('http://192.0.2.1:1'), ['192.0.2.1']), [{ host: '192.0.2.1', port: 1 }])
  for (const host of ['192.0.2.1', 'example.com', '0.0.0.0', '127.0.0.1.example.com']) {
    await t.rejects(addressesOf(new URL(`http://${host}`), ['other']), { message: `'${host}' is not this machine: allow it with --allow-host ${host}` })
  }
  await t.rejects(addressesOf(new URL('https://127.0.0.1'), []), { message: /uses TLS, which the drill does not support/ })
})
