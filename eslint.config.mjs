import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

/** The wings of lib/: a folder with one subject each. */
const wings = ['lifecycle', 'http', 'resources', 'process', 'exporters', 'timeline', 'cli', 'testing']

/** Wings whose values another wing may import. The command is a door of its own: it draws a report without the plugin. */
const doors = { cli: ['timeline'] }

/** A wing imports values only from itself, from `util/`, and from the open files at the top of `lib/`. Types may cross. */
const wingRules = wings.map(wing => ({
  files: [`lib/${wing}/**/*.ts`],
  rules: {
    '@typescript-eslint/no-restricted-imports': ['error', {
      patterns: [{
        regex: `/(?:${wings.filter(other => other !== wing && !doors[wing]?.includes(other)).join('|')})(?:/|$)`,
        allowTypeImports: true,
        message: 'A wing imports only types from another wing: core.ts, plugin.ts and attach.ts join them.'
      }]
    }]
  }
}))

export default [
  ...neostandard({ ts: true, ignores: resolveIgnoresFromGitignore() }),
  {
    files: ['**/*.ts'],
    rules: {
      // The type-aware twin of this rule knows `declare module` and overloads.
      'no-unused-vars': 'off',
      // `void promise`: no caller waits for it, on purpose.
      'no-void': ['error', { allowAsStatement: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none', ignoreRestSiblings: true }],
      '@typescript-eslint/consistent-type-imports': ['error', { prefer: 'type-imports', disallowTypeAnnotations: false }]
    }
  },
  ...wingRules,
  {
    files: ['lib/util/**/*.ts', 'lib/checks.ts', 'lib/errors.ts', 'lib/options.ts', 'lib/symbols.ts', 'lib/times.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': ['error', {
        patterns: [{ regex: `/(?:${wings.join('|')})(?:/|$)`, allowTypeImports: true, message: 'The open files know no wing.' }]
      }]
    }
  }
]
