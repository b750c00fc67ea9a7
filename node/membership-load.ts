import { measureSpace } from '../core/disk.ts'
import { splitScopeId } from '../core/scope.ts'
import type { NodeLoad, ProjectHeat } from '../proto/generated/hearth/v1/node.ts'
import type { CacheStore } from './cache-store/index.ts'
import type { DiskBudget } from './disk/index.ts'
import type { Scheduler } from './scheduler/index.ts'

/** How many steps of a project are warm here. */
export interface WarmSteps {
  /** Their results are in BuildKit's present state. */
  readonly hotSteps: number
  /** The layers of their results are in the cache store. */
  readonly heldSteps: number
}

export interface LoadDeps {
  scheduler: Scheduler
  store: CacheStore
  disk: DiskBudget
  /** By project. Default: none are known. */
  warmSteps?: (project: string) => WarmSteps
}

/** Those that hold most; it is told every few seconds. */
const projectsMax = 100
const noSteps: WarmSteps = { hotSteps: 0, heldSteps: 0 }

/** How busy the node is, how full, and how warm for each project. */
export async function measureLoad(
  deps: LoadDeps,
  options: { dataFolder: string },
): Promise<NodeLoad> {
  const { store, warmSteps = () => noSteps } = deps
  const { freeBytes } = await measureSpace(options.dataFolder)
  const usage = store.usage()
  const projects = new Set([...usage.scopes.keys()].map((id) => splitScopeId(id).project))
  return {
    ...deps.scheduler.load(),
    diskFreeBytes: freeBytes,
    cacheBytes: usage.bytes,
    diskLow: deps.disk.isShort,
    projects: [...projects]
      .map((project) => ({ project, heldBytes: store.projectBytes(project) }))
      .sort((a, b) => b.heldBytes - a.heldBytes)
      .slice(0, projectsMax)
      .map(({ project, heldBytes }): ProjectHeat => {
        const { hotSteps, heldSteps } = warmSteps(project)
        return { project, heldBytes, hotSteps, heldSteps }
      }),
  }
}
