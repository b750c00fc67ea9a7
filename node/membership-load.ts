import type { NodeLoad } from '../proto/generated/hearth/v1/node.ts'
import type { CacheStore } from './cache-store/index.ts'
import type { Scheduler } from './scheduler/index.ts'
import { freeBytes } from './service-caches.ts'

/** How busy the node is, and how full. */
export async function measureLoad(
  deps: { scheduler: Scheduler; store: CacheStore },
  options: { dataFolder: string },
): Promise<NodeLoad> {
  return {
    ...deps.scheduler.load(),
    diskFreeBytes: await freeBytes(options.dataFolder),
    cacheBytes: deps.store.usage().bytes,
    diskLow: false,
  }
}
