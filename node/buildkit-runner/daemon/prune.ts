/**
 * Our own collection of BuildKit's state, for a daemon that no build uses: stock collection runs a second
 * after every build, and its look at sizes (cache/manager.go: DiskUsage) locks each cache mount for a
 * moment, in which a starting step would be given an empty one.
 */
import type { Control } from './control-client.ts'

export type PruneOutcome =
  | { type: 'pruned'; bytesBefore: number; bytesAfter: number }
  | { type: 'kept'; reason: 'within its limit' | 'gave way to a build' }

/** Below the limit by this much, so that the next build does not cross it at once. */
const roomLeft = 0.1
/** BuildKit counts layers, we count the disk; each round corrects for the difference. */
const roundsMax = 3

/**
 * Brings the state of an idle daemon below its limit, least recently used first.
 * @param deps.measure bytes on disk now; rejects when the signal fires.
 * @param options.signal aborts when a build wants the daemon; nothing is locked any more when this resolves.
 */
export async function pruneState(
  deps: { control: Pick<Control, 'prune'>; measure: () => Promise<number> },
  options: { bytesMax: number; signal: AbortSignal },
): Promise<PruneOutcome> {
  const { bytesMax, signal } = options
  const target = Math.floor(bytesMax * (1 - roomLeft))
  try {
    const bytesBefore = await deps.measure()
    if (bytesBefore <= bytesMax) return { type: 'kept', reason: 'within its limit' }
    let allowed = target
    let bytesAfter = bytesBefore
    for (let round = 0; round < roundsMax && bytesAfter > bytesMax; round++) {
      await deps.control.prune({ bytesMax: allowed, signal })
      bytesAfter = await deps.measure()
      allowed = Math.max(0, allowed - Math.max(0, bytesAfter - target))
    }
    return { type: 'pruned', bytesBefore, bytesAfter }
  } catch (error) {
    if (!signal.aborted) throw error
    return { type: 'kept', reason: 'gave way to a build' }
  }
}
