#!/usr/bin/env node
'use strict'

// Who reads has read enough, as `head` does.
process.stdout.on('error', error => { if (error.code !== 'EPIPE') throw error })
require('../dist/lib/cli.js').run(process.argv.slice(2), process).then(code => { process.exitCode = code })
