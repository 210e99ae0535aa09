/** The image has no other dependencies than those in the service's own package.json. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const folder = join(__dirname, '../../../examples/service')

t.test("the service's package.json has every package that it imports, and no other", async t => {
  const text = readdirSync(folder).filter(file => file.endsWith('.ts')).map(file => readFileSync(join(folder, file), 'utf8')).join('\n')
  const imported = [...text.matchAll(/(?:^import (?!type ).* from |require\()'((?!node:|\.)[^']+)'/gm)].map(([, name]) => name!)
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  // The plugin is installed from the build. pg is a peer of @fastify/postgres, and @opentelemetry/api of the exporter.
  t.strictSame([...new Set([...imported, 'pg', '@opentelemetry/api'])].filter(name => !/^fastify-shutdown(?:\/|$)/.test(name)).sort(), Object.keys(dependencies).sort())
})
