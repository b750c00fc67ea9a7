/** Ends builds whose clients have gone without a word. */
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { Cause, Failure } from '../../proto/generated/hearth/v1/build.ts'
import type { NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { BuildRecord, State } from '../state/index.ts'
import { outcomeOfSolves, spanOfSolves } from './outcome.ts'

/** Builds that had no lease at the last look; gone at the next one too, they are lost. */
export type LostBuildWatch = Set<string>

/**
 * A build is lost when its certificate has expired, or when at two looks in a row none of its nodes holds a
 * slot for it: once could be the moment between the end of the build and its client's word.
 */
export async function endLostBuilds(
  deps: { state: State; directory: NodeDirectory; control: NodeControlPool; log: Logger },
  watch: LostBuildWatch,
  options: { nowMs: number; signal: AbortSignal },
): Promise<void> {
  const unfinished = deps.state.builds.unfinished()
  const expired = unfinished.filter((build) => build.certificateUntilMs < options.nowMs)
  const held = await findHeld(deps, unfinished, options)
  const seenBefore = new Set(watch)
  watch.clear()
  const without = unfinished.filter(({ id }) => held.get(id) === 'held by nobody')
  for (const { id } of without) watch.add(id)
  const lost = new Set([...expired, ...without.filter(({ id }) => seenBefore.has(id))])
  for (const { id } of lost) endBuild(deps, id, options.nowMs)
}

type Holding = 'held' | 'held by nobody' | 'unknown'

async function findHeld(
  deps: { directory: NodeDirectory; control: NodeControlPool; log: Logger },
  builds: readonly BuildRecord[],
  options: { signal: AbortSignal },
): Promise<Map<string, Holding>> {
  const nodeIds = new Set(builds.flatMap((build) => build.nodeIds))
  const byNode = new Map<string, Set<string>>()
  await Promise.all(
    [...nodeIds].map(async (nodeId) => {
      const asked = builds.filter((build) => build.nodeIds.includes(nodeId)).map(({ id }) => id)
      try {
        const node = deps.directory.requireOnline(nodeId)
        byNode.set(nodeId, new Set(await deps.control.heldBuilds(node, asked, options)))
      } catch (error) {
        deps.log.debug(
          { node: nodeId, reason: describeError(error) },
          'a node does not say which builds it holds',
        )
      }
    }),
  )
  return new Map(builds.map((build) => [build.id, holdingOf(build, byNode)]))
}

function holdingOf(build: BuildRecord, byNode: Map<string, Set<string>>): Holding {
  if (build.nodeIds.length === 0) return 'unknown'
  const answers = build.nodeIds.map((nodeId) => byNode.get(nodeId)?.has(build.id))
  if (answers.includes(true)) return 'held'
  return answers.includes(undefined) ? 'unknown' : 'held by nobody'
}

function endBuild(deps: { state: State; log: Logger }, id: string, nowMs: number): void {
  const build = deps.state.builds.get(id)
  // Its client may have come while the nodes were asked.
  if (build === undefined || build.finishedAtMs !== undefined) return
  const solves = deps.state.builds.solves(id)
  const failure = Failure.encode(
    Failure.fromPartial({
      cause: Cause.CAUSE_CLIENT_LOST,
      text: 'neither the client nor a node said how the build ended',
      advice: 'build again; the log of the node may know more',
    }),
  )
  const endedAtMs = spanOfSolves(solves)?.endedAtMs ?? nowMs
  deps.log.info({ build: id }, 'a build ended without a word of its client')
  deps.state.builds.update(id, {
    outcome: outcomeOfSolves(solves),
    finishedAtMs: nowMs,
    failure: build.failure ?? failure.finish(),
    durationMs: Math.max(0, endedAtMs - build.openedAtMs),
  })
}
