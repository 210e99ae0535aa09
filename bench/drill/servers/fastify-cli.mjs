/** An app for `fastify start`. */
import { answer } from './answer.mjs'

export default async function (app, _options) {
  app.get('/', answer)
}
