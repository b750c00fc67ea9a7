import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { reportsWaitMs } from '../limits.ts'
import type { NodeControlPool } from '../nodes/index.ts'
import type { NodeRecord } from '../state/index.ts'

/**
 * Gives back the slots of a build. A node answers when the reports that it has of the build have arrived
 * here. One that does not answer takes its slot back by itself, as it does for a client that has gone.
 */
export async function releaseLeases(
  deps: { control: NodeControlPool; log: Logger },
  buildId: string,
  nodes: readonly NodeRecord[],
  options: { timeoutMs: number } = { timeoutMs: reportsWaitMs },
): Promise<void> {
  // Not the caller's signal: the slots must be given back all the more when the caller has gone.
  const { signal } = new AbortController()
  await Promise.all(
    nodes.map(async (node) => {
      try {
        await deps.control.release(node, buildId, { ...options, signal })
      } catch (error) {
        deps.log.warn(
          { build: buildId, node: node.id, reason: describeError(error) },
          'a node did not take its slot back',
        )
      }
    }),
  )
}
