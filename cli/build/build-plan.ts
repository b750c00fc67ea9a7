/**
 * The plan of a build that is under way: made before it is placed where that decides where it goes, else beside it,
 * so that the next one can be compared with it. Never in the way of the build.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Plan } from '../../plan/index.ts'
import type { Plan as PlanMessage } from '../../proto/generated/hearth/v1/plan.ts'
import type { PlannerNode } from '../plan/plan-at-nodes.ts'
import type { Terminal } from '../terminal.ts'
import type { BuildCommandLine } from './command-line.ts'
import type { BuildSite } from './site.ts'

export interface BuildPlan {
  /** Before the build is placed, and no longer than `beforeMs`. @throws what the signal was aborted for. */
  before(
    at: { planners: readonly PlannerNode[]; privateKeyPem: string },
    options: { signal: AbortSignal },
  ): Promise<readonly PlanMessage[]>
  /** While the build runs. Resolves when the plan is kept, or at the build's end; never rejects. */
  beside(site: BuildSite, options: { buildEnded: AbortSignal }): Promise<void>
}

export interface BuildPlanRequest {
  readonly line: BuildCommandLine
  readonly buildx: string
  readonly context: string
  /** Private to the build. */
  readonly folder: string
}

/** A base image has to be looked up at a registry, which may be far. */
const beforeMs = 5_000

/** An unchanged build on a warm node is over by then, and nothing competes with it. */
const besideAfterMs = 1_000

const besideMs = 60_000

export function createBuildPlan(terminal: Terminal, request: BuildPlanRequest): BuildPlan {
  const { line } = request
  const isPlannable = line.verb === 'build' && !line.flags.some(({ name }) => isQuestion(name))
  let plans: readonly Plan[] = []

  return {
    async before(at, { signal }) {
      if (!isPlannable) return []
      const [{ planAtNodes }, { planMessage }] = await loadPlanning()
      plans = await planAtNodes(terminal, { ...request, ...at }, { limitMs: beforeMs, signal })
      return plans.map(planMessage)
    },
    async beside(site, { buildEnded }) {
      if (!isPlannable || site.type !== 'placed') return
      try {
        if (plans.length === 0) {
          await delay(besideAfterMs, undefined, { signal: buildEnded })
          const [{ planAtNodes }] = await loadPlanning()
          const planners = site.nodes.map((node) => ({ platforms: node.platforms, node }))
          const at = { planners, privateKeyPem: site.privateKeyPem }
          const options = { limitMs: besideMs, signal: buildEnded }
          plans = await planAtNodes(terminal, { ...request, ...at }, options)
        }
        const { saveLastPlans } = await import('../plan/last-plan.ts')
        await saveLastPlans(terminal.env, { ...request, project: site.project }, plans)
      } catch {
        // The build has ended first.
      }
    },
  }
}

/** Another question than what the build would do: nothing is built. */
function isQuestion(flag: string): boolean {
  return flag === 'call' || flag === 'check' || flag === 'print'
}

/** Takes as long as a plan itself, so only who plans loads it. */
function loadPlanning() {
  return Promise.all([import('../plan/plan-at-nodes.ts'), import('../../plan/index.ts')])
}
