#!/usr/bin/env node
'use strict'

require('../dist/lib/cli.js').run(process.argv.slice(2), process).then(code => { process.exitCode = code })
