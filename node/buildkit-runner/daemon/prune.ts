/**
 * Our own collection of BuildKit's state, for a daemon that no build uses: stock collection runs a second
 * after every build, and its look at sizes (cache/manager.go: DiskUsage) locks each cache mount for a
 * moment, in which a starting step would be given an empty one.
 */
import type { Control } from './control-client.ts'

export interface PruneRequest {
  readonly bytesMax: number
  /** What was not used for so long goes, whatever the bytes. Undefined: age does not matter. */
  readonly unusedMsMax?: number
  /**
   * Bytes that BuildKit counts as its own and `measure` does not: layers that the cache store has too.
   * Default 0.
   */
  readonly bytesUncounted?: number
  /** Bytes on disk now. */
  readonly measure: (options: { signal: AbortSignal }) => Promise<number>
  /** A build that wants the daemon waits for the end instead of breaking it off. Default false. */
  readonly insist?: boolean
}

export type PruneOutcome =
  | { type: 'pruned'; bytesBefore: number; bytesAfter: number }
  | { type: 'kept'; reason: 'within its limit' | 'gave way to a build' | 'in use' }

/** Below the limit by this much, so that the next build does not cross it at once. */
const roomLeft = 0.1
/** BuildKit counts layers, we count the disk; each round corrects for the difference. */
const roundsMax = 3

/**
 * Brings the state of an idle daemon below its limit, least recently used first.
 * @param options.signal aborts when a build wants the daemon; nothing is locked any more when this resolves.
 */
export async function pruneState(
  deps: { control: Pick<Control, 'prune' | 'pruneUnused'> },
  request: PruneRequest,
  options: { signal: AbortSignal },
): Promise<PruneOutcome> {
  const { bytesMax, unusedMsMax } = request
  const { signal } = options
  const target = Math.floor(bytesMax * (1 - roomLeft))
  try {
    if (unusedMsMax !== undefined) await deps.control.pruneUnused({ unusedMsMax, signal })
    const bytesBefore = await request.measure({ signal })
    if (bytesBefore <= bytesMax) return { type: 'kept', reason: 'within its limit' }
    let allowed = target + (request.bytesUncounted ?? 0)
    let bytesAfter = bytesBefore
    for (let round = 0; round < roundsMax && bytesAfter > bytesMax; round++) {
      await deps.control.prune({ bytesMax: allowed, signal })
      bytesAfter = await request.measure({ signal })
      allowed = Math.max(0, allowed - Math.max(0, bytesAfter - target))
    }
    return { type: 'pruned', bytesBefore, bytesAfter }
  } catch (error) {
    if (!signal.aborted) throw error
    return { type: 'kept', reason: 'gave way to a build' }
  }
}
