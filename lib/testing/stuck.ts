/** `stuck`: a resource that does not close, as a client whose server no longer answers. */
import type { Resource } from '../../types/index'

/**
 * Creates a resource whose `close` never settles. It has no `force`, so the report has it as `abandoned`, and the
 * outcome is `failed`. With a `force` that settles, both are `forced`.
 *
 * It holds no timer and no handle.
 *
 * @param resource other members of the resource, as `{ timeout: 100, dependsOn: ['postgres'], force () {} }`.
 *   @default {}
 */
export function stuck (resource: Omit<Resource, 'close'> = {}): Resource {
  return { ...resource, close: () => new Promise<never>(() => {}) }
}
