/** Bare node:http without a signal handler. */
import http from 'node:http'
import { answer } from './answer.mjs'

http.createServer(async (_request, response) => { response.end(JSON.stringify(await answer())) }).listen(0, '127.0.0.1')
