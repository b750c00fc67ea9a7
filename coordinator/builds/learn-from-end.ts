/** What the end of a placed build teaches about the next one of its project. */
import { type SolveReport, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import type { PlannedStep } from '../../proto/generated/hearth/v1/plan.ts'
import type { State } from '../state/index.ts'
import { learnAround } from './forecast-build.ts'
import type { EndedBuild } from './under-way.ts'

/**
 * A build that succeeded on one node, with a plan, shows what its project takes besides the steps. What ran side
 * by side on several nodes shows nothing of the kind.
 */
export function learnFromEnd(
  { state }: { state: State },
  build: { project: string; solves: readonly SolveReport[]; places: readonly EndedBuild[] },
  options: { nowMs: number },
): void {
  const [place, ...others] = build.places
  if (place?.grantedAtMs === undefined || others.length > 0) return
  const planned = place.plans.flatMap(({ steps }) => steps)
  if (planned.length === 0) return
  const tookMs = options.nowMs - place.grantedAtMs
  const ranMs = pathMs(planned, build.solves)
  const aroundMs = Math.max(0, tookMs - ranMs - place.layersMs)
  learnAround(state, build.project, { tookMs: aroundMs, hasRun: ranMs > 0 }, options)
}

/** What the longest chain of steps that ran has taken. */
function pathMs(planned: readonly PlannedStep[], solves: readonly SolveReport[]): number {
  const took = new Map<string, number>()
  for (const { key, outcome, durationMs } of solves.flatMap(({ steps }) => steps)) {
    if (key !== '' && outcome === StepOutcome.STEP_OUTCOME_RAN) took.set(key, durationMs)
  }
  const ends = new Map<string, number>()
  for (const { key, inputs } of planned) {
    const begin = Math.max(0, ...inputs.map((input) => ends.get(input) ?? 0))
    ends.set(key, begin + (took.get(key) ?? 0))
  }
  return Math.max(0, ...ends.values())
}
