/**
 * A new user installs the package in an empty project, copies a block of the documents, starts it, sends a request and
 * stops it: with each module system, and with the tools that create an app.
 */
import { cpSync, existsSync, readFileSync, readdirSync, renameSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { answersAndShutsDown, block, createProjects, line, onFreePort, type Project } from './helpers/newcomer'

const hello = '{"hello":"world"}'
const esm = onFreePort(block('README.md', 'server.mjs'))
const commonJs = onFreePort(block('README.md', 'server.cjs'))
/** As the README says: the block for CommonJS, with `import` instead of `require`. */
const typescriptCommonJs = commonJs.replaceAll(/const (\w+) = require\(('.+')\)/g, 'import $1 from $2')

/** The entry points of the package that npm has installed. */
function entryPoints ({ folder }: Project): string[] {
  const { exports } = JSON.parse(readFileSync(join(folder, 'node_modules/fastify-shutdown/package.json'), 'utf8'))
  return Object.keys(exports).map(name => `fastify-shutdown${name.slice(1)}`)
}

const isJson = (name: string): boolean => name.endsWith('.json')

const requires = (project: Project): string => entryPoints(project).map(name => `require('${name}')\n`).join('')

/** Imports every entry point, and prints how many names each one has. */
const imports = (project: Project): string => [
  ...entryPoints(project).map((name, index) => `import * as e${index} from '${name}'${isJson(name) ? " with { type: 'json' }" : ''}`),
  `for (const entry of [${entryPoints(project).map((_, index) => `e${index}`).join(', ')}]) console.log(Object.keys(entry).length)`
].join('\n')

/** The same in TypeScript, which must know the types of each one. */
const typedImports = (project: Project): string => [
  imports(project),
  'type IsAny<T> = 0 extends 1 & T ? true : false',
  ...entryPoints(project).map((_, index) => `export const isAny${index}: IsAny<typeof e${index}> = false`),
  // The compiler must find a name for each of these types.
  "import gracefulShutdown, { sse, teardown } from 'fastify-shutdown'",
  "import type { FastifyInstance } from 'fastify'",
  'export const plugin = gracefulShutdown',
  'export const functions = { sse, teardown }',
  'export const shutDown = (app: FastifyInstance) => [app.shutdownState, app.shutdown, app.shutdown.start()] as const'
].join('\n')

/** Runs the compiler of the project. @returns the errors in the project and in the plugin, and not in other packages */
async function compile (project: Project, ...args: string[]): Promise<string[]> {
  const output = await project.exec('node_modules/.bin/tsc', '--pretty', 'false', ...args).catch((error: Error) => error.message)
  const errors = output.split('\n').filter(line => /error TS/.test(line))
  // A compiler that fails without naming an error did not compile.
  if (errors.length === 0 && output.startsWith('Command failed')) return [output]
  return errors.filter(line => !/^node_modules\/(?!fastify-shutdown\/)/.test(line))
}

const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, declaration: true, target: 'es2023', resolveJsonModule: true, types: ['node'] }
const tsconfig = (options: object): string => JSON.stringify({ compilerOptions: { ...strict, ...options }, include: ['src'] })

void t.test('new users', async t => {
  const createProject = await createProjects(t)

  await t.test('CommonJS, in a project that npm init makes', async t => {
    const project = createProject('commonjs')
    await project.npm('init', '--yes')
    await project.install('fastify')
    project.write('server.js', commonJs)
    await answersAndShutsDown(t, project.start(t, ['server.js']), hello)
    project.write('entries.js', requires(project))
    await project.exec(process.execPath, 'entries.js')
    t.match(await project.exec('npx', '--no-install', 'fastify-shutdown', '--help'), 'Usage: fastify-shutdown')
  })

  await t.test('ES modules, in an empty folder', async t => {
    const project = createProject('esm')
    await project.follow('README.md', 'npm install fastify fastify-shutdown')
    project.write('server.mjs', esm)
    const [, ...args] = line('README.md', 'node server.mjs').split(' ')
    await answersAndShutsDown(t, project.start(t, args), hello)
    project.write('entries.mjs', imports(project))
    const counts = (await project.exec(process.execPath, '--no-warnings', 'entries.mjs')).trim().split('\n').map(Number)
    t.equal(counts.length, entryPoints(project).length)
    t.ok(counts.every(count => count > 0), counts.join(' '))
    project.write('shutdown.test.mjs', block('README.md', 'shutdown.test.mjs'))
    t.match(await project.exec(process.execPath, '--test'), /(?:#|ℹ) pass 1/)
  })

  await t.test('TypeScript', async t => {
    const project = createProject('typescript')
    await project.follow('README.md', 'npm install fastify fastify-shutdown')
    await project.follow('README.md', 'npm install --save-dev typescript @types/node')

    await t.test('with module: nodenext, as an ES module and as CommonJS', async t => {
      project.write('tsconfig.json', tsconfig({ module: 'nodenext', outDir: 'dist', rootDir: 'src' }))
      project.write('src/server.mts', esm)
      project.write('src/server.cts', typescriptCommonJs)
      project.write('src/entries.mts', typedImports(project))
      project.write('src/entries.cts', typedImports(project).replaceAll(" with { type: 'json' }", ''))
      project.write('src/types.ts', readmeTypes())
      project.write('src/plugins/shutdown.mts', block('docs/fastify-cli.md', 'src/plugins/shutdown.ts'))
      t.strictSame(await compile(project), [])
      for (const file of ['dist/server.mjs', 'dist/server.cjs']) await answersAndShutsDown(t, project.start(t, [file]), hello)
      for (const file of ['dist/entries.mjs', 'dist/entries.cjs']) await project.exec(process.execPath, '--no-warnings', file)
    })

    await t.test('with moduleResolution: bundler, as one file', async t => {
      const bundled = createProject('bundler')
      for (const each of ['node_modules', 'package.json']) cpSync(join(project.folder, each), join(bundled.folder, each), { recursive: true })
      bundled.write('tsconfig.json', tsconfig({ module: 'esnext', moduleResolution: 'bundler', skipLibCheck: true, noEmit: true }))
      bundled.write('src/server.ts', esm)
      bundled.write('src/main.ts', typescriptCommonJs)
      bundled.write('src/entries.ts', typedImports(bundled))
      t.strictSame(await compile(bundled), [])
      // tsx has esbuild as its own dependency.
      const { buildSync } = createRequire(require.resolve('tsx'))('esbuild') as typeof import('esbuild')
      const { errors, warnings } = buildSync({
        entryPoints: [join(bundled.folder, 'src/main.ts')], outfile: join(bundled.folder, 'bundle.cjs'), bundle: true, platform: 'node', logLevel: 'silent'
      })
      t.strictSame([errors, warnings.filter(({ location }) => location?.file.includes('fastify-shutdown'))], [[], []])
      renameSync(join(bundled.folder, 'node_modules'), join(bundled.folder, 'not-used'))
      await answersAndShutsDown(t, bundled.start(t, ['bundle.cjs']), hello)
    })
  })

  await t.test('fastify-cli, in an app that fastify generate makes', async t => {
    const project = createProject('cli')
    await project.npm('install', 'fastify-cli')
    await project.exec('node_modules/.bin/fastify', 'generate', 'app')
    const app = createProject('cli/app')
    await app.npm('install')
    await app.follow('docs/fastify-cli.md', 'npm install fastify-shutdown')
    app.write('plugins/shutdown.js', block('docs/fastify-cli.md', 'plugins/shutdown.js'))
    await answersAndShutsDown(t, startApp(t, app), '{"root":true}')
  })

  await t.test('NestJS with its adapter for Fastify', async t => {
    const project = createProject('nest')
    // As in an app that `nest new` makes.
    const packages = ['@nestjs/core', '@nestjs/common', 'reflect-metadata', 'rxjs', 'typescript', '@types/node']
    await project.npm('install', ...packages)
    await project.follow('docs/nestjs.md', 'npm install @nestjs/platform-fastify')
    await project.follow('docs/nestjs.md', 'npm install fastify-shutdown')
    project.write('tsconfig.json', tsconfig({ module: 'nodenext', outDir: 'dist', rootDir: 'src', skipLibCheck: true, emitDecoratorMetadata: true, experimentalDecorators: true }))
    project.write('src/app.module.ts', `
      import { Controller, Get, Module } from '@nestjs/common'

      @Controller()
      class AppController {
        @Get()
        getHello (): object { return { hello: 'world' } }
      }

      @Module({ controllers: [AppController] })
      export class AppModule {}
    `)
    project.write('src/main.ts', onFreePort(block('docs/nestjs.md', 'src/main.ts')))
    t.strictSame(await compile(project), [])
    await answersAndShutsDown(t, project.start(t, ['dist/main.js']), hello)
  })

  await t.test('the package declares each package that it needs', async t => {
    const project = createProject('nested')
    // Each package gets its dependencies in a folder of its own, so it finds what it declares and nothing else.
    await project.install('fastify', '--install-strategy=nested')
    project.write('entries.js', requires(project))
    project.write('deployment.yaml', /^```yaml\n(.*?)^```/ms.exec(readFileSync(join(__dirname, '../docs/kubernetes.md'), 'utf8'))![1]!)
    const use = async (): Promise<void> => {
      await project.exec(process.execPath, 'entries.js')
      await project.exec('node_modules/.bin/fastify-shutdown', 'budget', 'deployment.yaml')
    }
    await use()
    const own = join(project.folder, 'node_modules/fastify-shutdown')
    const { dependencies } = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8')) as { dependencies: object }
    for (const name of Object.keys(dependencies)) {
      t.ok(existsSync(join(own, 'node_modules', name)), name)
      renameSync(join(own, 'node_modules', name), join(own, 'removed'))
      await t.rejects(use(), { message: new RegExp(`Cannot find module '${name}'`) }, `without ${name}`)
      renameSync(join(own, 'removed'), join(own, 'node_modules', name))
    }
    const declared = [...Object.keys(dependencies), ...Object.keys(JSON.parse(readFileSync(join(own, 'package.json'), 'utf8')).peerDependencies), 'node']
    t.strictSame([...importedTypes(own)].filter(name => !declared.includes(name)), [], 'the declarations')
  })
})

/** The block of types in the README. */
function readmeTypes (): string {
  const readme = readFileSync(join(__dirname, '../README.md'), 'utf8')
  const code = /^```ts\n(.*?)^```/ms.exec(readme.slice(readme.indexOf('\n## TypeScript\n')))![1]!
  return `${code}export { options, onReport }\n`
}

/** Starts an app as its own script `start` does, on a free port. */
function startApp (t: Test, app: Project): ReturnType<Project['start']> {
  const { scripts: { start } } = JSON.parse(readFileSync(join(app.folder, 'package.json'), 'utf8')) as { scripts: { start: string } }
  const [command, ...args] = start.split(' ')
  if (command !== 'fastify') throw new Error(`Expected the command fastify: ${start}`)
  // fastify-cli takes port 0 as no port at all, except from the environment.
  return app.start(t, ['node_modules/.bin/fastify', ...args], { env: { PORT: '0' } })
}

/** The packages that the declarations import. */
function importedTypes (own: string): Set<string> {
  const files = readdirSync(join(own, 'dist'), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.d.ts'))
  const names = files.flatMap(file => [...readFileSync(join(own, 'dist', file), 'utf8').matchAll(/(?:from |import\(|require\(|types=)['"]([^'"]+)['"]/g)].map(([, name]) => name!))
  return new Set(names.filter(name => !name.startsWith('.')).map(name => name.startsWith('node:') ? 'node' : /^(?:@[^/]+\/)?[^/]+/.exec(name)![0]))
}
