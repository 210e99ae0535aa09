#!/usr/bin/env node
'use strict'

// Ignore EPIPE: the reader closed the pipe.
process.stdout.on('error', error => { if (error.code !== 'EPIPE') throw error })
require('../dist/lib/cli/main.js').run(process.argv.slice(2), process).then(code => { process.exitCode = code })
