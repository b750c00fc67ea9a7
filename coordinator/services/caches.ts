/** What is asked of every node: how much its cache holds, whether it is sound, to forget a project. */
import { describeError, HearthError, toHearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { mainLine } from '../../core/scope.ts'
import type { NodeMounts, VerifyCacheEvent } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { NodeCacheUsage } from '../../proto/generated/hearth/v1/node.ts'
import type { Caller } from '../access/index.ts'
import type { NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { NodeRecord } from '../state/index.ts'

interface CachesDeps {
  directory: NodeDirectory
  control: NodeControlPool
  log: Logger
}

/** Nodes that are away or do not answer in time are left out. */
export async function askUsage(
  deps: CachesDeps,
  project: string,
  options: { signal: AbortSignal },
): Promise<NodeCacheUsage[]> {
  const answers = await Promise.all(
    onlineNodes(deps.directory).map(async (node) => {
      try {
        return [await deps.control.usage(node, project, options)]
      } catch (error) {
        deps.log.warn(
          { node: node.id, reason: describeError(error) },
          'a node does not tell its usage',
        )
        return []
      }
    }),
  )
  return answers.flat()
}

/**
 * One node after the other: each reads at the pace of its disk, and the caller sees where it stands.
 * @throws HearthError when a node fails or is away: nobody may take half a verification for a whole one.
 */
export async function* verifyCaches(
  deps: CachesDeps,
  project: string,
  options: { signal: AbortSignal },
): AsyncGenerator<VerifyCacheEvent, void, void> {
  for (const { node } of deps.directory.list()) {
    deps.directory.requireOnline(node.id)
    for await (const event of deps.control.verify(node, project, options)) {
      yield { nodeId: node.id, event }
    }
  }
}

/** @throws HearthError when a node is away or refuses; the others have forgotten the project by then. */
export async function resetCaches(
  deps: CachesDeps,
  project: string,
  options: { signal: AbortSignal },
): Promise<number> {
  const outcomes = await Promise.allSettled(
    deps.directory
      .list()
      .map(({ node }) => node.id)
      .map(async (nodeId) =>
        deps.control.reset(deps.directory.requireOnline(nodeId), project, options),
      ),
  )
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw toHearthError(failed.reason)
  return outcomes.reduce(
    (sum, outcome) => sum + (outcome.status === 'fulfilled' ? outcome.value : 0),
    0,
  )
}

/** Nodes that are away or do not answer in time are left out. */
export async function askMounts(
  deps: CachesDeps,
  project: string,
  options: { signal: AbortSignal },
): Promise<NodeMounts[]> {
  const answers = await Promise.all(
    onlineNodes(deps.directory).map(async (node) => {
      try {
        return [{ nodeId: node.id, mounts: await deps.control.mounts(node, project, options) }]
      } catch (error) {
        const reason = describeError(error)
        deps.log.warn({ node: node.id, reason }, 'a node does not tell its cache mounts')
        return []
      }
    }),
  )
  return answers.flat()
}

/**
 * One node after the other: the first one says it in the mesh, too, and the others need not say it again.
 * @returns the most that a node had.
 * @throws HearthError when a node is away or fails; the others have reset it by then.
 */
export async function resetMountEverywhere(
  deps: CachesDeps,
  mount: { project: string; id: string },
  options: { signal: AbortSignal },
): Promise<number> {
  let most = 0
  let failure: unknown
  for (const { node } of deps.directory.list()) {
    try {
      const online = deps.directory.requireOnline(node.id)
      most = Math.max(most, await deps.control.resetMount(online, mount, options))
    } catch (error) {
      failure ??= error
    }
  }
  if (failure !== undefined) throw toHearthError(failure)
  return most
}

/** Forgetting a project touches all of its lines; a token of a fork must not. */
export function requireOneLine(caller: Caller): void {
  if (caller.type === 'operator' || caller.scope.line === mainLine) return
  throw new HearthError(
    'forbidden',
    `the trust line "${caller.scope.line}" may not reset a project`,
    {
      hint: "use an operator's token, or one of the project's main line",
    },
  )
}

function onlineNodes(directory: NodeDirectory): NodeRecord[] {
  return directory
    .list()
    .filter(({ online }) => online)
    .map(({ node }) => node)
}
