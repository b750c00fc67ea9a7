/**
 * What a build will need of a node, and what that costs there in milliseconds. A step's result comes in one of
 * three ways: it is hot, its layers are brought and unpacked, or the step runs on its inputs; the cheapest way
 * counts, and only what the build's outputs need is counted.
 */
import type { Digest } from '../../core/digest.ts'

/** The steps of one platform's plan, each after its inputs. */
export type Forecast = readonly ForecastStep[]

export interface ForecastStep {
  /** Indexes of earlier steps of the same forecast. */
  readonly inputs: readonly number[]
  /** What it will take when it runs, from when it last ran. */
  readonly runMs: number
  /** The layers of its result, with the chain below it; undefined when nobody has ever made it. */
  readonly layers: readonly Layer[] | undefined
}

export interface Layer {
  readonly digest: Digest
  readonly bytes: number
}

/** What the forecast's results are to one node. */
export interface Warmth {
  /** Unpacked in the BuildKit that will build. */
  isHot(step: number): boolean
  /** To have the layer on the node's disk: 0 when it is there, undefined when nobody can give it. */
  bringMs(layer: Layer): number | undefined
}

export interface Work {
  /** For all layers that have to come to the node. Can overlap with the time in the queue. */
  readonly moveMs: number
  readonly unpackMs: number
  /** Of the longest chain of steps that run. */
  readonly runMs: number
  readonly bytesMoved: number
  /** Needed steps whose results are reused, and how many steps there are. */
  readonly stepsReused: number
  readonly stepsTotal: number
}

/** BuildKit unpacks gzip at about this speed (50 to 60 MB compressed in 2 s on two cores). */
const unpackBytesPerMs = 30_000

type Way = 'hot' | 'bring' | 'run'

/** @param forecast of any length; cost is linear in its steps, inputs and layers. */
export function estimateWork(forecast: Forecast, warmth: Warmth): Work {
  const ways = cheapestWays(forecast, warmth)
  const needed = neededSteps(forecast, ways)
  const path: number[] = []
  const layers = new Map<Digest, { bytes: number; bringMs: number }>()
  let stepsReused = 0
  for (const [index, step] of forecast.entries()) {
    const runs = needed[index] === true && ways[index] === 'run'
    path.push(runs ? step.runMs + longest(path, step.inputs) : 0)
    if (!runs) stepsReused += 1
    if (needed[index] !== true || ways[index] !== 'bring') continue
    for (const layer of step.layers ?? []) {
      layers.set(layer.digest, { bytes: layer.bytes, bringMs: warmth.bringMs(layer) ?? 0 })
    }
  }
  const brought = [...layers.values()]
  return {
    moveMs: sum(brought.map(({ bringMs }) => bringMs)),
    unpackMs: sum(brought.map(({ bytes }) => bytes)) / unpackBytesPerMs,
    runMs: Math.max(0, ...path),
    bytesMoved: sum(brought.map(({ bytes, bringMs }) => (bringMs > 0 ? bytes : 0))),
    stepsReused,
    stepsTotal: forecast.length,
  }
}

/** For each step by itself, in the order of the forecast. */
function cheapestWays(forecast: Forecast, warmth: Warmth): Way[] {
  const costs: number[] = []
  return forecast.map((step, index) => {
    if (warmth.isHot(index)) {
      costs.push(0)
      return 'hot'
    }
    const run = step.runMs + longest(costs, step.inputs)
    const bring = step.layers === undefined ? undefined : bringCost(step.layers, warmth)
    costs.push(Math.min(run, bring ?? run))
    return bring !== undefined && bring <= run ? 'bring' : 'run'
  })
}

function bringCost(layers: readonly Layer[], warmth: Warmth): number | undefined {
  let cost = 0
  for (const layer of layers) {
    const bringMs = warmth.bringMs(layer)
    if (bringMs === undefined) return undefined
    cost += bringMs + layer.bytes / unpackBytesPerMs
  }
  return cost
}

/** From the steps that nobody uses as an input, back through those that run. */
function neededSteps(forecast: Forecast, ways: readonly Way[]): boolean[] {
  const used = new Set(forecast.flatMap(({ inputs }) => inputs))
  const needed = forecast.map((_, index) => !used.has(index))
  for (let index = forecast.length - 1; index >= 0; index -= 1) {
    if (needed[index] !== true || ways[index] !== 'run') continue
    for (const input of forecast[index]?.inputs ?? []) needed[input] = true
  }
  return needed
}

function longest(values: readonly number[], indexes: readonly number[]): number {
  return Math.max(0, ...indexes.map((index) => values[index] ?? 0))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
