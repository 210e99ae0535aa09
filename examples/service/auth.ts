/** Login with tokens (JWT) and with a signed cookie. Both use the keys of `keys.ts`, so both survive a rotation. */
import { createHmac } from 'node:crypto'
import fastifyCookie, { Signer, type UnsignResult } from '@fastify/cookie'
import fastifyJwt from '@fastify/jwt'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from './variables'
import type { Keys } from './keys'

export interface AuthOptions {
  readonly config: Config
  readonly keys: Keys
}

interface User {
  readonly name: string
}

const cookieName = 'session'
const name = { type: 'string', minLength: 1, maxLength: 100 } as const
const user = { type: 'object', required: ['name'], properties: { name } } as const
const token = { type: 'object', properties: { token: { type: 'string' } } } as const

/** Routes `POST /login` and `GET /me`. A real login also checks a password. */
export async function authRoutes (app: FastifyInstance, { config, keys }: AuthOptions): Promise<void> {
  await app.register(fastifyJwt, {
    // A function, because the keys change. It is called for each token.
    secret: async () => keys.all[0]!,
    sign: { algorithm: 'HS256', expiresIn: `${config.TOKEN_LIFETIME}s` },
    verify: { algorithms: ['HS256'] }
  })
  await app.register(fastifyCookie, { secret: cookieSigner(keys) })

  app.post<{ Body: User }>('/login', { schema: { body: user, response: { 200: token } } }, async (request, reply) => {
    const { name } = request.body
    const token = await reply.jwtSign({ name }, {})
    setSession(reply, { name, until: Date.now() + config.TOKEN_LIFETIME * 1_000 })
    return { token }
  })

  app.get('/me', { schema: { response: { 200: user } } }, async (request, reply): Promise<User> => {
    const session = request.headers.authorization === undefined ? sessionOf(request, reply) : undefined
    const { name } = session ?? await verifyToken(request)
    return { name }
  })

  /** Tries each key. Only a wrong signature leads to the next key: an expired token is expired with any key. */
  async function verifyToken (request: FastifyRequest): Promise<User> {
    let last: unknown
    for (const key of keys.all) {
      try {
        return await request.jwtVerify<User>({ key })
      } catch (error) {
        if ((error as { readonly code?: string }).code !== 'FST_JWT_AUTHORIZATION_TOKEN_INVALID') throw error
        last = error
      }
    }
    throw last
  }

  interface Session extends User {
    /** When it ends, in milliseconds since 1970. */
    readonly until: number
  }

  function setSession (reply: FastifyReply, session: Session): void {
    reply.setCookie(cookieName, JSON.stringify(session), {
      signed: true,
      path: '/',
      httpOnly: true,
      sameSite: 'strict',
      secure: config.NODE_ENV === 'production',
      maxAge: Math.ceil((session.until - Date.now()) / 1_000)
    })
  }

  /** A cookie that an older key has signed is signed again, so that the older key can be removed. */
  function sessionOf (request: FastifyRequest, reply: FastifyReply): Session | undefined {
    const { valid, renew, value } = request.unsignCookie(request.cookies[cookieName] ?? '')
    if (!valid) return undefined
    const session: Session = JSON.parse(value)
    if (session.until < Date.now()) return undefined
    if (renew) setSession(reply, session)
    return session
  }
}

/** A signer with the keys of this moment. Each key is derived, so that a cookie cannot be used as a token. */
function cookieSigner (keys: Keys): { sign(value: string): string, unsign(value: string): UnsignResult } {
  const derive = (key: string): string => createHmac('sha256', key).update('cookie').digest('base64')
  const signer = (): Signer => new Signer(keys.all.map(derive))
  return {
    sign: value => signer().sign(value),
    unsign: value => signer().unsign(value)
  }
}
