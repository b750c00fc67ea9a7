/** What is foreseen of a build from its plans: which steps it has, what they took, where their results are. */
import type { Scope } from '../../core/scope.ts'
import type { Plan, PlannedStep } from '../../proto/generated/hearth/v1/plan.ts'
import {
  type Candidate,
  expectedRunMs,
  forecastPlan,
  type PlanForecast,
  type Rates,
  type StepHeat,
} from '../routing/index.ts'
import type { State } from '../state/index.ts'

export interface BuildForecast extends PlanForecast {
  /** The plans, with what their steps last took. */
  readonly plans: readonly Plan[]
  readonly aroundMs: number
  readonly aroundReusedMs: number
}

export interface ForecastDeps {
  readonly state: State
  readonly heat: StepHeat | undefined
  readonly rates: Rates
}

/** Nodes that are priced closely: those that would spare the most, and those that are least busy. */
const warmNodesMax = 16
const idleNodesMax = 8

/** Under these names durations keep what a project's builds take besides their steps, if any of those runs. */
const aroundSteps = 'around the steps'
const aroundNoSteps = 'around no steps'

/** Until a project's first builds have been measured. */
const usualAroundMs = 1_500

/** @returns undefined when nothing is known. */
export function forecastBuild(
  { state, heat, rates }: ForecastDeps,
  scope: Scope,
  plans: readonly Plan[],
  nodes: readonly Candidate[],
): BuildForecast | undefined {
  if (heat === undefined || plans.every(({ steps }) => steps.length === 0)) return undefined
  const timed = plans.map((plan) => ({ ...plan, steps: withDurations(state, scope, plan.steps) }))
  const planned = timed.flatMap(({ steps }) => steps)
  const view = heat.look(
    scope,
    planned.map(({ key }) => key),
  )
  const spared = view.spared(
    nodes.map(({ id }) => id),
    planned.map(expectedRunMs),
  )
  const forecast = forecastPlan(planned, { heat: view.table(shortlist(nodes, spared)), rates })
  const aroundMs = state.steps.lastRanMs(scope.project, aroundSteps) || usualAroundMs
  const aroundReusedMs = state.steps.lastRanMs(scope.project, aroundNoSteps) || aroundMs
  return { ...forecast, plans: timed, aroundMs, aroundReusedMs }
}

function withDurations(state: State, scope: Scope, steps: readonly PlannedStep[]): PlannedStep[] {
  return steps.map((step) => ({
    ...step,
    lastRanMs:
      step.operationDigest === '' ? 0 : state.steps.lastRanMs(scope.project, step.operationDigest),
  }))
}

function shortlist(nodes: readonly Candidate[], spared: readonly number[]): string[] {
  if (nodes.length <= warmNodesMax + idleNodesMax) return nodes.map(({ id }) => id)
  const warm = highest(spared, warmNodesMax)
  const idle = highest(
    nodes.map((node) => -occupied(node)),
    idleNodesMax,
  )
  return nodes.filter((_, place) => warm.has(place) || idle.has(place)).map(({ id }) => id)
}

/** Places of the highest values; among equals, the first ones. */
function highest(values: readonly number[], count: number): Set<number> {
  const least = Float64Array.from(values).sort()[values.length - count] ?? 0
  const places = new Set<number>()
  for (let place = 0; place < values.length; place += 1) {
    if ((values[place] ?? 0) > least) places.add(place)
  }
  for (let place = 0; place < values.length && places.size < count; place += 1) {
    if (values[place] === least) places.add(place)
  }
  return places
}

function occupied(node: Candidate): number {
  return (node.load.slotsUsed + node.load.queued) / Math.max(1, node.load.slots)
}

/**
 * One more build has shown what goes on around the steps.
 * @param around.tookMs from the decision to the end, without what was waited for and without its steps.
 */
export function learnAround(
  state: State,
  project: string,
  around: { tookMs: number; hasRun: boolean },
  options: { nowMs: number },
): void {
  const name = around.hasRun ? aroundSteps : aroundNoSteps
  const before = state.steps.lastRanMs(project, name)
  const next = before === 0 ? around.tookMs : before + (around.tookMs - before) / 2
  state.steps.put(project, name, Math.max(1, Math.round(next)), options.nowMs)
}
