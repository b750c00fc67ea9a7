/** Caches whose nodes can no longer say what became of them, and builds whose nodes went away under them. */
import type { Logger } from '../../core/log.ts'
import { Cause, Failure, KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import type { PendingSolve, State } from '../state/index.ts'

/** Longer than any export may take on a node. */
const silenceMs = 3 * 60 * 60_000

/**
 * A node that has started again knows nothing of what it was doing before: what it still owed is lost.
 * @param life as the node names it; '' from nodes that do not.
 */
export function noteNodeLife(
  deps: { state: State; log: Logger },
  nodeId: string,
  life: string,
): void {
  const { state, log } = deps
  const node = state.nodes.get(nodeId)
  if (node === undefined || life === '' || node.life === life) return
  state.write(() => {
    state.nodes.put(nodeId, { ...node, life })
    if (node.life === undefined) return
    for (const pending of state.builds.pending()) {
      if (pending.nodeId === nodeId) {
        loseCache(deps, pending, 'the node ended before the cache was kept')
      }
    }
    const failure = Failure.encode(
      Failure.fromPartial({
        cause: Cause.CAUSE_NODE_LOST,
        text: `the node ${node.name} ended during the build, and has started again`,
        advice: 'build again; the log of the node may know why it ended',
      }),
    ).finish()
    // They end when their clients say so, or when nobody goes on with them.
    for (const build of state.builds.unfinished()) {
      if (!build.nodeIds.includes(nodeId)) continue
      log.warn({ build: build.id, node: nodeId }, 'the node of a build has started again')
      state.builds.update(build.id, { failure })
    }
  })
}

/** Gives up what no node has said anything of for long. */
export function endSilentCaches(deps: { state: State; log: Logger }, nowMs: number): void {
  for (const pending of deps.state.builds.pending()) {
    const { startedAt, durationMs } = pending.solve
    if ((startedAt?.getTime() ?? 0) + durationMs + silenceMs > nowMs) continue
    loseCache(deps, pending, 'the node has not said what became of the cache')
  }
}

function loseCache(
  { state, log }: { state: State; log: Logger },
  { buildId, nodeId, solve }: PendingSolve,
  keepReason: string,
): void {
  log.warn({ build: buildId, node: nodeId, reason: keepReason }, 'the cache of a build is lost')
  const keep = KeepOutcome.KEEP_OUTCOME_LOST
  state.builds.putSolve(buildId, nodeId, { ...solve, keep, keepReason })
}
