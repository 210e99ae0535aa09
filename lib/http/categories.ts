/** Categories of requests: from the config of the route, or from the option `categorize`. */
import type { FastifyRequest } from 'fastify'
import type { RouteShutdownConfig } from '../../types/index'
import { ShutdownOptionError, received } from '../errors'
import type { OnProblem } from '../lifecycle/problems'
import type { Settings } from '../options'
import { suggest } from '../util/did-you-mean'

/** The categories of requests. */
export interface Categories {
  /** Returns the category of a request, or `null` if it has none. */
  of(request: FastifyRequest): string | null
}

/**
 * Creates the categories.
 *
 * @param onProblem called if `categorize` throws or returns an unknown category. The request then has no category.
 */
export function createCategories (
  { categories, categorize }: Pick<Settings, 'categories' | 'categorize'>,
  onProblem: OnProblem
): Categories {
  return {
    of (request) {
      try {
        const category = request.routeOptions.config?.shutdown?.category ?? categorize?.(request)
        if (category === undefined || categories.has(category)) return category ?? null
        throw new ShutdownOptionError(
          `Expected 'categorize' to return undefined or one of ${names(categories)}, got ${received(category)}`
        )
      } catch (error) {
        onProblem("'categorize' failed: the request has no category", error)
        return null
      }
    }
  }
}

/** Checks the `config.shutdown` of a route. @throws FST_ERR_SHUTDOWN_OPTION when the route is registered */
export function checkRoute (
  url: string, config: RouteShutdownConfig | undefined, categories: Settings['categories']
): void {
  if (config === undefined) return
  if (typeof config !== 'object' || config === null) {
    throw new ShutdownOptionError(
      `Expected 'config.shutdown' of route '${url}' to be an object, got ${received(config)}`
    )
  }
  for (const name of Object.keys(config)) {
    if (name !== 'category' && name !== 'exempt') {
      throw new ShutdownOptionError(
        `'config.shutdown.${name}' of route '${url}' is not an option${suggest(name, ['category', 'exempt'])}`
      )
    }
  }
  const { category, exempt } = config
  if (exempt !== undefined && typeof exempt !== 'boolean') {
    throw new ShutdownOptionError(
      `Expected 'config.shutdown.exempt' of route '${url}' to be a boolean, got ${received(exempt)}`
    )
  }
  if (category !== undefined && !categories.has(category)) {
    const hint = suggest(String(category), categories.keys())
    throw new ShutdownOptionError(
      `Expected 'config.shutdown.category' of route '${url}' to be one of ${names(categories)}, ` +
      `got ${received(category)}${hint}`
    )
  }
}

function names (categories: Settings['categories']): string {
  return categories.size === 0
    ? "the option 'categories', which is empty"
    : [...categories.keys()].map(name => `'${name}'`).join(', ')
}
