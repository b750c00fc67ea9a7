/**
 * The node for each platform of a build, and why. Pure functions over what is known of the nodes: a build
 * only goes to a node that builds its platform natively, is well and takes new builds, and among those to
 * the one that will end it first: queue, bytes to move, steps to run.
 */
import type { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import type { Forecast, Warmth, Work } from './forecast.ts'

/** A node as routing sees it. */
export interface Candidate {
  readonly id: string
  readonly name: string
  /** `os/arch` that it builds natively. */
  readonly platform: string
  readonly online: boolean
  readonly load: Pick<NodeLoad, 'slots' | 'slotsUsed' | 'queued' | 'draining'> & {
    /** It gives no slot before it has made room on its disk. */
    readonly diskLow?: boolean
  }
  /** Expected rest of each of its builds, those that run before those that queue; undefined: not known. */
  readonly remainingMs?: readonly number[]
  /** It is late with its call, or has just not answered: others first, until it is heard of again. */
  readonly isSilent?: boolean
}

export interface RouteRequest {
  /** `os/arch[/variant]`, or undefined for whatever platform the nodes have. */
  readonly platform: string | undefined
  /** Where the project was built last: it wins among equals, because its BuildKit is warm. */
  readonly lastNodeId: string | undefined
  /** What is to be done, and how warm each node is for it; undefined when nothing is known of the build. */
  readonly forecast?:
    | {
        readonly steps: Forecast
        warmth(nodeId: string): Warmth
        /** What the project's builds take besides their steps: connecting, the context, the result. */
        readonly aroundMs?: number
        /** The same for those that run no step, where it is known. */
        readonly aroundReusedMs?: number
      }
    | undefined
}

/** What a build would cost on one node. */
export interface Estimate extends Partial<Work> {
  readonly queueMs: number
  /** Besides the steps. */
  readonly aroundMs?: number
  /** From now to the build's end; without a forecast, to its beginning. */
  readonly endMs: number
}

export type RouteDecision =
  | {
      readonly type: 'chosen'
      readonly nodeId: string
      /** Why this one, in one line. */
      readonly reason: string
      readonly estimate: Estimate
      /** Who comes next, best first, should this one not answer. */
      readonly runnersUp: readonly {
        readonly nodeId: string
        readonly reason: string
        readonly estimate: Estimate
      }[]
    }
  | {
      readonly type: 'none'
      readonly reason: 'no nodes' | 'platform unknown' | 'all offline' | 'all draining'
      /** Platforms that nodes build natively, online or not. */
      readonly platforms: readonly string[]
    }

export {
  estimateWork,
  type Forecast,
  type ForecastStep,
  type Layer,
  type Warmth,
  type Work,
} from './forecast.ts'
export { expectedRunMs, forecastPlan, type PlanForecast } from './plan-forecast.ts'
export { normalPlatform } from './platform.ts'
export { createRates, type Rates } from './rates.ts'
export { canRoute, explainNone, route } from './route.ts'
export { createStepHeat, type HeatTable, type HeatView, type StepHeat } from './step-heat.ts'
