#!/usr/bin/env node
'use strict'

// Ignore EPIPE: the reader closed the pipe.
process.stderr.on('error', () => {})
process.stdout.on('error', ({ code }) => {
  if (code === 'EPIPE') return
  process.stderr.write(`fastify-shutdown: cannot write to standard output: ${code}\n`)
  process.exit(2)
})
require('../dist/lib/cli/main.js').run(process.argv.slice(2), process).then(code => { process.exitCode = code })
