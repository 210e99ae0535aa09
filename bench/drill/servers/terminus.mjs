/** Express with @godaddy/terminus, as its README shows it. */
import terminus from '@godaddy/terminus'
import express from 'express'
import http from 'node:http'
import { answer } from './answer.mjs'

const app = express()
app.get('/', async (_request, response) => { response.json(await answer()) })
const server = http.createServer(app)
terminus.createTerminus(server, { signal: 'SIGTERM', timeout: 3_000, useExit0: true })
server.listen(0, '127.0.0.1')
