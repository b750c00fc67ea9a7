/** Why a build failed, as far as this end can find out. */
import { type Build, Cause, Failure } from '../../proto/generated/hearth/v1/build.ts'
import { answers } from './node-answers.ts'
import type { BuildSite } from './site.ts'
import type { BuildEnding } from './summary.ts'

/**
 * What the coordinator answered; when it did not, whether the nodes are still there. Undefined for a build
 * that succeeded, and for one of which nothing is known.
 */
export async function findFailure(
  site: BuildSite,
  ending: BuildEnding,
  build: Build | undefined,
): Promise<Failure | undefined> {
  if (ending === 'succeeded') return undefined
  if (build !== undefined) return build.failure
  if (ending === 'cancelled' || site.type === 'local') return undefined
  const alive = await Promise.all(site.nodes.map(({ address }) => answers(address)))
  const gone = site.nodes.filter((_, index) => !alive[index]).map(({ address }) => address)
  if (gone.length === 0) return undefined
  return Failure.fromPartial({
    cause: Cause.CAUSE_NODE_LOST,
    text: `the node at ${gone.join(' and ')} does not answer any more`,
    advice: 'build again when it is back; its log may know why it ended',
  })
}

/** One line for people, or none where buildx, or the person, has said it already. */
export function failureLine(failure: Failure | undefined): string[] {
  const said: readonly Cause[] = [Cause.CAUSE_REFUSED, Cause.CAUSE_CLIENT_CANCELLED]
  if (failure === undefined || said.includes(failure.cause) || failure.text === '') return []
  return [`hearth: ${failure.text}${failure.advice === '' ? '' : `; ${failure.advice}`}`]
}
