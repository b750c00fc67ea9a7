/**
 * Nodes that are to be left alone until they are heard of again: those that did not answer when they were asked
 * for a slot, that have left the mesh, or that are late with their call. Long before they count as offline, others
 * are asked first.
 */
import type { NodeDirectory } from '../nodes/index.ts'

export interface SilentNodes {
  /** @param node.lastSeenAtMs as the directory has it. */
  has(node: { id: string; lastSeenAtMs: number }): boolean
  /** It did not answer just now. */
  note(nodeId: string): void
}

/** A call may be this many intervals late on a busy machine. */
const lateIntervals = 2

export function createSilentNodes(
  deps: { directory: NodeDirectory; isGone?: (nodeId: string) => boolean },
  options: { heartbeatMs: number; now: () => number },
): SilentNodes {
  const { directory } = deps
  const lateMs = options.heartbeatMs * lateIntervals
  /** When each was last heard of before it did not answer. */
  const unanswered = new Map<string, number>()

  return {
    has({ id, lastSeenAtMs }) {
      const isLate = options.now() - lastSeenAtMs > lateMs
      const noted = unanswered.get(id)
      if (noted !== undefined && noted !== lastSeenAtMs) unanswered.delete(id)
      return isLate || unanswered.has(id) || deps.isGone?.(id) === true
    },
    note(nodeId) {
      const known = directory.list().find(({ node }) => node.id === nodeId)
      if (known !== undefined) unanswered.set(nodeId, known.lastSeenAtMs)
    },
  }
}
