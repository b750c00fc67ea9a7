/** Finishes a build: its slots go back, its reports are waited for, its outcome is written down. */
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type Build, BuildOutcome } from '../../proto/generated/hearth/v1/build.ts'
import type { FinishBuildRequest } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { Caller } from '../access/index.ts'
import type { NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { BuildRecord, State } from '../state/index.ts'
import { requireOwnBuild } from './find-build.ts'
import { learnFromEnd } from './learn-from-end.ts'
import type { Outlook } from './outlook.ts'
import { releaseLeases } from './release-leases.ts'
import { toBuild } from './to-build.ts'

const outcomesOfClients: readonly BuildOutcome[] = [
  BuildOutcome.BUILD_OUTCOME_SUCCEEDED,
  BuildOutcome.BUILD_OUTCOME_FAILED,
  BuildOutcome.BUILD_OUTCOME_CANCELLED,
]

/** Told again, it answers what is known by then and changes nothing. */
export async function finishBuild(
  deps: {
    state: State
    directory: NodeDirectory
    control: NodeControlPool
    outlook: Outlook
    log: Logger
  },
  caller: Caller,
  request: FinishBuildRequest,
  options: { nowMs: number; waitMs: number },
): Promise<Build> {
  const { state } = deps
  const build = requireOwnBuild(deps, caller, request.buildId)
  if (!outcomesOfClients.includes(request.outcome)) {
    throw new HearthError('invalid-input', 'a build ends succeeded, failed or cancelled')
  }
  if (build.finishedByClient !== true) {
    state.builds.update(build.id, {
      outcome: request.outcome,
      durationMs: Math.max(0, request.durationMs),
      finishedAtMs: options.nowMs,
      finishedByClient: true,
    })
    // With its slot, each node hands over the reports that it has.
    const places = deps.outlook.underWay.ended(build.id)
    await releaseLeases(deps, build.id, nodesOf(deps.directory, build), {
      timeoutMs: options.waitMs,
    })
    if (request.outcome === BuildOutcome.BUILD_OUTCOME_SUCCEEDED) {
      const solves = state.builds.solves(build.id)
      learnFromEnd(deps, { project: build.project, solves, places }, options)
    }
  }
  return toBuild(state.builds.get(build.id) ?? build, state.builds.solves(build.id))
}

function nodesOf(directory: NodeDirectory, build: BuildRecord) {
  return build.nodeIds.map(directory.get).filter((node) => node !== undefined)
}
