import type { Resource } from '../types/index'
export function adapterFor (client: object): Resource {
  const c = client as { end?: () => Promise<void>, quit?: () => Promise<void> }
  return { close: async () => { await (c.end ?? c.quit)!.call(c) } }
}
