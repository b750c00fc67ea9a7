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
  /** By step: whether it has to run. */
  readonly runs: readonly boolean[]
}

/** BuildKit unpacks gzip at about this speed (50 to 60 MB compressed in 2 s on two cores). */
const unpackBytesPerMs = 30_000

type Way = 'hot' | 'bring' | 'run'

/** @param forecast of any length; cost is linear in its steps, inputs and layers. */
export function estimateWork(forecast: Forecast, warmth: Warmth): Work {
  const bring = priceLayers(forecast, warmth)
  const ways = cheapestWays(forecast, warmth, bring)
  const needed = neededSteps(forecast, ways)
  const path: number[] = []
  const runs: boolean[] = []
  const brought = new Set<number>()
  for (const [index, step] of forecast.entries()) {
    const hasToRun = needed[index] === true && ways[index] === 'run'
    runs.push(hasToRun)
    path.push(hasToRun ? step.runMs + longest(path, step.inputs) : 0)
    if (needed[index] !== true || ways[index] !== 'bring') continue
    for (const layer of bring.layersOf(index)) brought.add(layer)
  }
  const work = { moveMs: 0, unpackBytes: 0, bytesMoved: 0 }
  for (const layer of brought) {
    const bytes = bring.layers[layer]?.bytes ?? 0
    const bringMs = bring.costMs[layer] ?? 0
    work.moveMs += bringMs
    work.unpackBytes += bytes
    if (bringMs > 0) work.bytesMoved += bytes
  }
  return {
    moveMs: work.moveMs,
    unpackMs: work.unpackBytes / unpackBytesPerMs,
    runMs: Math.max(0, ...path),
    bytesMoved: work.bytesMoved,
    stepsReused: runs.filter((hasToRun) => !hasToRun).length,
    stepsTotal: forecast.length,
    runs,
  }
}

/** Each layer once, and for each step the places of its layers among them. The same for every node. */
interface LayerList {
  readonly layers: readonly Layer[]
  layersOf(step: number): readonly number[]
}

interface PricedLayers extends LayerList {
  /** By layer; Infinity when nobody can give it. */
  readonly costMs: Float64Array
}

/** One forecast is priced on many nodes. */
const layerLists = new WeakMap<Forecast, LayerList>()

function listLayers(forecast: Forecast): LayerList {
  const known = layerLists.get(forecast)
  if (known !== undefined) return known
  const layers: Layer[] = []
  const placeOf = new Map<Digest, number>()
  const bySteps = forecast.map((step) =>
    (step.layers ?? []).map((layer) => {
      const place = placeOf.get(layer.digest) ?? layers.push(layer) - 1
      placeOf.set(layer.digest, place)
      return place
    }),
  )
  const list = { layers, layersOf: (step: number) => bySteps[step] ?? [] }
  layerLists.set(forecast, list)
  return list
}

function priceLayers(forecast: Forecast, warmth: Warmth): PricedLayers {
  const list = listLayers(forecast)
  const costMs = Float64Array.from(
    list.layers,
    (layer) => warmth.bringMs(layer) ?? Number.POSITIVE_INFINITY,
  )
  return { ...list, costMs }
}

/** For each step by itself, in the order of the forecast. */
function cheapestWays(forecast: Forecast, warmth: Warmth, priced: PricedLayers): Way[] {
  const costs: number[] = []
  return forecast.map((step, index) => {
    if (warmth.isHot(index)) {
      costs.push(0)
      return 'hot'
    }
    const run = step.runMs + longest(costs, step.inputs)
    const bring = step.layers === undefined ? Number.POSITIVE_INFINITY : bringCost(priced, index)
    costs.push(Math.min(run, bring))
    return bring <= run ? 'bring' : 'run'
  })
}

function bringCost({ layers, layersOf, costMs }: PricedLayers, step: number): number {
  let cost = 0
  for (const layer of layersOf(step)) {
    cost += (costMs[layer] ?? 0) + (layers[layer]?.bytes ?? 0) / unpackBytesPerMs
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
