/** The TypeScript template of fastify-cli, compiled with its own tsconfig.json and the types of the plugin. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cli, exec, get, startApp } from '../helpers/fastify-cli'

const root = join(__dirname, '../..')

void t.test('the TypeScript template compiles with the types of the plugin, drains, and exits with 0', async t => {
  const app = join(t.testdir(), 'app-ts')
  await exec(process.execPath, [cli, 'generate', app, '--lang=ts'])
  const tsc = require.resolve('typescript/bin/tsc')
  // The package as it is published, because the app compiles against its declarations.
  const installed = join(app, 'node_modules/fastify-shutdown')
  mkdirSync(installed, { recursive: true })
  cpSync(join(root, 'package.json'), join(installed, 'package.json'))
  await exec(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', join(installed, 'dist')])
  writeFileSync(join(app, 'src/plugins/shutdown.ts'), `
    import fp from 'fastify-plugin'
    import gracefulShutdown from 'fastify-shutdown'

    export default fp(async (fastify) => {
      fastify.register(gracefulShutdown, {
        resources: { database: { close: async () => { console.log('database closed', fastify.shutdownState.phase) } } },
        onReport: ({ outcome, exitCode }) => { console.log('report', outcome, exitCode) }
      })
    })
  `)
  writeFileSync(join(app, 'src/routes/slow.ts'), `
    import { type FastifyPluginAsync } from 'fastify'

    const slow: FastifyPluginAsync = async (fastify): Promise<void> => {
      fastify.get('/slow', async () => {
        console.log('slow begins')
        await new Promise(resolve => setTimeout(resolve, 1500))
        return fastify.shutdownState.phase
      })
    }

    export default slow
  `)
  // The template does not set it, and TypeScript 6 requires it (TS5011).
  await exec(process.execPath, [tsc, '--rootDir', 'src'], { cwd: app })
  const child = await startApp(t, app, 'dist/app.js')
  t.equal(await get(child.port, '/example'), '200 this is an example')
  const answer = get(child.port, '/slow')
  await child.said('slow begins')
  child.kill('SIGTERM')
  t.equal(await answer, '200 draining')
  const { code, signal, stderr } = await child.ended
  t.strictSame([code, signal, stderr], [0, null, ''])
  t.strictSame([child.count('database closed cleaning'), child.count('report clean 0')], [1, 1])
})
