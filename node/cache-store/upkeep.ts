/** What the store does by itself: work in the background, and eviction when there is reason for it. */
import type { Logger } from '../../core/log.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { Accounts } from './accounts.ts'
import type { Eviction } from './eviction.ts'
import type { Gate } from './gate.ts'
import { projectOf } from './index-keys.ts'

export interface Upkeep extends Disposable {
  /** Starts work that nobody waits for but the closing store. `doing` completes "cannot …". */
  background(doing: string, run: () => Promise<unknown>): void
  evictSoon(): void
  /** If the scope's project has more than it may. */
  evictIfOver(scope: ScopeId): void
}

export function createUpkeep(
  deps: { gate: Gate; eviction: Eviction; accounts: Accounts; log: Logger },
  options: { evictionEveryMs: number },
): Upkeep {
  const { gate, eviction, accounts, log } = deps

  const background = (doing: string, run: () => Promise<unknown>) => {
    if (!gate.isOpen) return
    const inside = gate.enter()
    run()
      .catch((error) => log.error({ error }, `cannot ${doing}`))
      .finally(() => inside[Symbol.dispose]())
  }

  let isQueued = false
  const evictSoon = () => {
    if (isQueued) return
    isQueued = true
    background('evict from the cache store', () => {
      isQueued = false
      return eviction.run()
    })
  }
  const timer = setInterval(evictSoon, options.evictionEveryMs).unref()

  return {
    background,
    evictSoon,
    evictIfOver(scope) {
      const project = projectOf(scope)
      if (accounts.project(project).bytes > eviction.bytesMaxOf(project)) evictSoon()
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}
