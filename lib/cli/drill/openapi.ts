/** Chooses requests from the OpenAPI document of a server: GET operations that need no parameter. */

/** Where servers have their document. */
export const documentPaths = ['/documentation/json', '/openapi.json']

/** Most operations that are used. */
const mostOperations = 20

type Json = Readonly<Record<string, unknown>>

/** Returns the paths of the GET operations without required parameters that do not answer by a stream. */
export function pathsOf (text: string): string[] {
  let document: Json
  try {
    document = object(JSON.parse(text))
  } catch {
    return []
  }
  const base = basePath(document)
  return Object.entries(object(document.paths)).flatMap(([path, item]) => {
    const { get, parameters } = object(item)
    if (get === undefined || path.includes('{') || !/^\/[!-~]*$/.test(path)) return []
    const all = [...list(parameters), ...list(object(get).parameters)].map(parameter => resolve(document, parameter))
    return all.some(parameter => parameter.required === true) || streams(object(get)) ? [] : [`${base}${path}`]
  }).slice(0, mostOperations)
}

/** The path of the first server (OpenAPI 3), or `basePath` (Swagger 2). */
function basePath (document: Json): string {
  const url = object(list(document.servers)[0]).url ?? document.basePath
  if (typeof url !== 'string' || url.includes('{')) return ''
  try {
    return new URL(url, 'http://localhost').pathname.replace(/\/+$/, '')
  } catch {
    return ''
  }
}

function streams (operation: Json): boolean {
  const contents = Object.values(object(operation.responses)).flatMap(
    response => Object.keys(object(object(response).content))
  )
  return [...contents, ...list(operation.produces)].some(type => String(type).startsWith('text/event-stream'))
}

/** Follows a local reference. */
function resolve (document: Json, value: unknown): Json {
  const { $ref: reference } = object(value)
  if (typeof reference !== 'string' || !reference.startsWith('#/')) return object(value)
  return object(reference.slice(2).split('/').reduce<unknown>((node, key) => object(node)[key], document))
}

function object (value: unknown): Json {
  return typeof value === 'object' && value !== null ? value as Json : {}
}

function list (value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
