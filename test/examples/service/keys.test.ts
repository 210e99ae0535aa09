/** The keys of tokens and cookies rotate while the service runs. */
import { mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isCut } from '../../../examples/service/keys'
import { startExample, translateExample, until, type Example } from '../../helpers/example-service'
import { hasPostgres, startPostgres, unless } from '../../helpers/services'

const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(letter => letter.repeat(40)) as [string, string, string, string]

t.test('a text may be cut if it loses a known key and its last line has no end', async t => {
  const cut = (text: string): boolean => isCut(text, [a, b])
  t.ok(cut(''))
  t.ok(cut(c))
  t.ok(cut(`${c}\n${a.slice(0, 20)}`))
  t.ok(cut(`${c}\n${a}\n${b.slice(0, 20)}`))
  t.notOk(cut(`${c}\n`), 'a whole line')
  t.notOk(cut(`${c}\n${a}`), 'it ends with a known key')
  t.notOk(cut(`${a}\n${b}\n${c}`), 'it loses no key')
})

t.test('keys rotate', { ...unless('postgres', hasPostgres()), timeout: 90_000 }, async t => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const directory = translateExample(t)
  const env = { DATABASE_URL: `postgres://postgres@127.0.0.1:${postgres.port}/postgres`, NODE_ENV: 'production' }

  async function login ({ send }: Example): Promise<{ token: string, cookie: string }> {
    const { status, body, headers } = await send('POST', '/login', { body: { name: 'Ann' } })
    if (status !== 200) throw new Error(`login answers ${status}`)
    return { token: body.token, cookie: headers.getSetCookie()[0]!.split(';')[0]! }
  }
  const byToken = async ({ send }: Example, token: string): Promise<number> => (await send('GET', '/me', { headers: { authorization: `Bearer ${token}` } })).status
  const byCookie = async ({ send }: Example, cookie: string): Promise<number> => (await send('GET', '/me', { headers: { cookie } })).status

  t.test('in place, by a rename and through a symlink, under load, with no 401', async t => {
    const folder = join(directory, 'keys')
    mkdirSync(join(folder, '1'), { recursive: true })
    writeFileSync(join(folder, '1', 'keys'), `${a}\n`)
    // As Kubernetes mounts a secret: keys -> ..data/keys, and ..data -> a folder that is replaced.
    symlinkSync('1', join(folder, '..data'))
    symlinkSync('..data/keys', join(folder, 'keys'))
    const service = await startExample(t, directory, { ...env, JWT_KEYS_FILE: join(folder, 'keys') })
    const statuses: number[] = []
    const users = [await login(service)]
    const over = new AbortController()
    const load = Promise.all(Array.from({ length: 4 }, async (_, index) => {
      while (!over.signal.aborted) {
        const { token, cookie } = users[statuses.length % users.length]!
        statuses.push(index % 2 === 0 ? await byToken(service, token) : await byCookie(service, cookie))
      }
    }))
    let changes = 0
    const changed = async (): Promise<void> => {
      changes++
      await until(async () => service.child.lines.filter(line => line.includes('JWT_KEYS_FILE has changed')).length === changes)
      users.push(await login(service))
    }

    writeFileSync(join(folder, '1', 'keys'), `${b}\n${a}\n`)
    await changed()

    writeFileSync(join(folder, '1', 'next'), `${c}\n${b}\n${a}\n`)
    renameSync(join(folder, '1', 'next'), join(folder, '1', 'keys'))
    await changed()

    mkdirSync(join(folder, '2'))
    writeFileSync(join(folder, '2', 'keys'), [d, c, b, a].join('\n')) // kubectl adds no newline
    symlinkSync('2', join(folder, '..tmp'))
    renameSync(join(folder, '..tmp'), join(folder, '..data'))
    await changed()

    over.abort()
    await load
    t.ok(statuses.length > 100, `${statuses.length} requests`)
    t.strictSame([...new Set(statuses)], [200])

    // Only the last key remains: the login after each rotation was signed by the first key of that moment.
    writeFileSync(join(folder, '2', 'keys'), `${d}\n`)
    await changed()
    const last = users.slice(0, 4)
    t.strictSame(await Promise.all(last.map(({ token }) => byToken(service, token))), [401, 401, 401, 200])
    t.strictSame(await Promise.all(last.map(({ cookie }) => byCookie(service, cookie))), [401, 401, 401, 200])
    t.notMatch(service.child.lines.join('\n'), new RegExp([a, b, c, d].join('|')), 'no key is in the log')
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('an empty, half or missing file locks no user out', async t => {
    const file = join(directory, 'fragile')
    writeFileSync(file, `${a}\n${b}\n`)
    const service = await startExample(t, directory, { ...env, JWT_KEYS_FILE: file })
    const { token, cookie } = await login(service)
    const texts = ['', '\n', c, `${c}\n${a.slice(0, 35)}`, `${c}\nshort\n${a}\n`, null]
    for (const [index, text] of texts.entries()) {
      if (text === null) unlinkSync(file)
      else writeFileSync(file, text)
      await service.logged('the keys before remain', index + 1)
      t.equal(await byToken(service, token), 200, JSON.stringify(text))
      t.equal(await byCookie(service, cookie), 200, JSON.stringify(text))
    }
    writeFileSync(file, `${c}\n${a}\n`)
    await service.logged('JWT_KEYS_FILE has changed')
    t.equal(await byToken(service, token), 200, 'the file is read again when it is whole')
    t.match(await service.stop(), { code: 0, outcome: 'clean' })
  })

  t.test('a cookie of an older key is signed again', async t => {
    const file = join(directory, 'renewed')
    writeFileSync(file, `${a}\n`)
    const service = await startExample(t, directory, { ...env, JWT_KEYS_FILE: file })
    const { cookie } = await login(service)
    t.strictSame((await service.send('GET', '/me', { headers: { cookie } })).headers.getSetCookie(), [])
    writeFileSync(file, `${b}\n${a}\n`)
    await service.logged('JWT_KEYS_FILE has changed')
    const [renewed] = (await service.send('GET', '/me', { headers: { cookie } })).headers.getSetCookie()
    t.match(renewed, /^session=.*; HttpOnly; Secure; SameSite=Strict$/)
    t.not(renewed!.split(';')[0], cookie)
    t.equal(await byCookie(service, renewed!.split(';')[0]!), 200)
  })

  t.test('a changed token, a token without a signature and a changed cookie are refused', async t => {
    const file = join(directory, 'refused')
    writeFileSync(file, `${a}\n`)
    const service = await startExample(t, directory, { ...env, JWT_KEYS_FILE: file })
    const { token, cookie } = await login(service)
    const none = `${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.${token.split('.')[1]}.`
    const [header, payload, signature] = token.split('.') as [string, string, string]
    const other = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(payload, 'base64url').toString()), name: 'Bob' })).toString('base64url')
    for (const each of [none, `${header}.${other}.${signature}`, `${header}.${payload}.`, 'x']) t.equal(await byToken(service, each), 401, each)
    t.equal(await byCookie(service, cookie.replace('Ann', 'Bob')), 401)
    t.equal(await byCookie(service, 'session='), 401)
    t.equal((await service.send('GET', '/me')).status, 401)
    t.match((await service.send('GET', '/status')).body, { phase: 'running' })
  })
})
