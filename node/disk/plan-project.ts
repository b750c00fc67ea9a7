/**
 * How far BuildKit's states of a project must shrink for its policy, where states and cache store together are
 * more than it allows. Pure.
 *
 * The states may take what the cache store leaves, and half of the policy in any case: unpacked layers and
 * cache mounts that were used today are worth more than the oldest blobs, and blobs are what a state is made
 * again from. Among the states those of side lines go first while they take more than a quarter, then the one
 * used longest ago.
 */
import { mainLine, type Scope, type ScopeId, scopeId } from '../../core/scope.ts'

export interface PlannedState {
  readonly scope: Scope
  /** What would go with the state. */
  readonly netBytes: number
  readonly lastUsedAtMs: number
}

export interface ProjectPlan {
  /** Limits of those states that must shrink. */
  readonly limits: ReadonlyMap<ScopeId, number>
  /** What the cache store's blobs of the project may take. */
  readonly storeRoom: number
}

const statesShare = 0.5
const sideLinesShare = 0.25

export function planProject(
  states: readonly PlannedState[],
  { storeBytes, bytesMax }: { storeBytes: number; bytesMax: number },
): ProjectPlan {
  const left = new Map(states.map((state) => [scopeId(state.scope), state.netBytes]))
  const sum = (of: readonly PlannedState[]): number =>
    of.reduce((bytes, { scope }) => bytes + (left.get(scopeId(scope)) ?? 0), 0)
  const allowed = Math.max(bytesMax * statesShare, bytesMax - storeBytes)
  const oldestFirst = states.toSorted((a, b) => a.lastUsedAtMs - b.lastUsedAtMs)
  const side = oldestFirst.filter(({ scope }) => scope.line !== mainLine)

  const cut = (from: readonly PlannedState[], bytes: number): void => {
    let over = bytes
    for (const { scope } of from) {
      const has = left.get(scopeId(scope)) ?? 0
      const goes = Math.min(has, Math.max(0, over))
      left.set(scopeId(scope), has - goes)
      over -= goes
    }
  }
  cut(side, Math.min(sum(states) - allowed, sum(side) - allowed * sideLinesShare))
  cut(oldestFirst, sum(states) - allowed)

  const limits = new Map<ScopeId, number>()
  for (const { scope, netBytes } of states) {
    const limit = left.get(scopeId(scope)) ?? 0
    if (limit < netBytes) limits.set(scopeId(scope), limit)
  }
  // States that cannot shrink yet do not take the store's half.
  return { limits, storeRoom: Math.max(bytesMax * statesShare, bytesMax - sum(states)) }
}
