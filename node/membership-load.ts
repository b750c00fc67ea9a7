import { measureSpace } from '../core/disk.ts'
import type { NodeLoad } from '../proto/generated/hearth/v1/node.ts'
import type { CacheStore } from './cache-store/index.ts'
import type { DiskBudget } from './disk/index.ts'
import type { Scheduler } from './scheduler/index.ts'

/** How busy the node is, and how full. */
export async function measureLoad(
  deps: { scheduler: Scheduler; store: CacheStore; disk: DiskBudget },
  options: { dataFolder: string },
): Promise<NodeLoad> {
  const { freeBytes } = await measureSpace(options.dataFolder)
  return {
    ...deps.scheduler.load(),
    diskFreeBytes: freeBytes,
    cacheBytes: deps.store.usage().bytes,
    diskLow: deps.disk.isShort,
    projects: [],
  }
}
