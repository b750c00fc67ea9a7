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

/** How a step's result comes; 0: it is hot. */
const bring = 1
const run = 2

/**
 * A route prices one forecast on dozens of nodes within a few ms, so what is the same for all of them is worked out
 * once, and little is left behind for the collector.
 * @param forecast of any length; cost is linear in its steps, inputs and layers.
 */
export function estimateWork(forecast: Forecast, warmth: Warmth): Work {
  const shape = shapeOf(forecast)
  const layerMs = Float64Array.from(
    shape.layers,
    (layer) => warmth.bringMs(layer) ?? Number.POSITIVE_INFINITY,
  )
  const ways = cheapestWays(forecast, warmth, shape, layerMs)
  const needed = neededSteps(forecast, shape, ways)
  const path = new Float64Array(forecast.length)
  const runs: boolean[] = []
  const isBrought = new Uint8Array(shape.layers.length)
  let [runMs, stepsReused] = [0, 0]
  for (let index = 0; index < forecast.length; index += 1) {
    const step = forecast[index]
    if (step === undefined) break
    const hasToRun = needed[index] === 1 && ways[index] === run
    runs.push(hasToRun)
    if (hasToRun) {
      const endMs = step.runMs + longest(path, step.inputs)
      path[index] = endMs
      runMs = Math.max(runMs, endMs)
      continue
    }
    stepsReused += 1
    if (needed[index] !== 1 || ways[index] !== bring) continue
    for (const layer of shape.layersOf[index] ?? []) isBrought[layer] = 1
  }
  let [moveMs, unpackBytes, bytesMoved] = [0, 0, 0]
  for (let layer = 0; layer < isBrought.length; layer += 1) {
    if (isBrought[layer] !== 1) continue
    const bytes = shape.layers[layer]?.bytes ?? 0
    const bringMs = layerMs[layer] ?? 0
    moveMs += bringMs
    unpackBytes += bytes
    if (bringMs > 0) bytesMoved += bytes
  }
  const unpackMs = unpackBytes / unpackBytesPerMs
  return { moveMs, unpackMs, runMs, bytesMoved, stepsReused, stepsTotal: forecast.length, runs }
}

/** What of a forecast is the same for every node. */
interface Shape {
  /** Each once. */
  readonly layers: readonly Layer[]
  /** For each step the places of its layers among them. */
  readonly layersOf: readonly (readonly number[])[]
  /** For each step, whether another one has it as an input. */
  readonly isUsed: Uint8Array
}

const shapes = new WeakMap<Forecast, Shape>()

function shapeOf(forecast: Forecast): Shape {
  const known = shapes.get(forecast)
  if (known !== undefined) return known
  const layers: Layer[] = []
  const placeOf = new Map<Digest, number>()
  const layersOf = forecast.map((step) =>
    (step.layers ?? []).map((layer) => {
      const place = placeOf.get(layer.digest) ?? layers.push(layer) - 1
      placeOf.set(layer.digest, place)
      return place
    }),
  )
  const isUsed = new Uint8Array(forecast.length)
  for (const { inputs } of forecast) for (const input of inputs) isUsed[input] = 1
  const shape = { layers, layersOf, isUsed }
  shapes.set(forecast, shape)
  return shape
}

/** For each step by itself, in the order of the forecast. */
function cheapestWays(
  forecast: Forecast,
  warmth: Warmth,
  shape: Shape,
  layerMs: Float64Array,
): Uint8Array {
  const ways = new Uint8Array(forecast.length)
  const costs = new Float64Array(forecast.length)
  for (let index = 0; index < forecast.length; index += 1) {
    const step = forecast[index]
    if (step === undefined || warmth.isHot(index)) continue
    const runMs = step.runMs + longest(costs, step.inputs)
    let bringMs = step.layers === undefined ? Number.POSITIVE_INFINITY : 0
    for (const layer of shape.layersOf[index] ?? []) {
      bringMs += (layerMs[layer] ?? 0) + (shape.layers[layer]?.bytes ?? 0) / unpackBytesPerMs
    }
    ways[index] = bringMs <= runMs ? bring : run
    costs[index] = Math.min(runMs, bringMs)
  }
  return ways
}

/** From the steps that nobody uses as an input, back through those that run. */
function neededSteps(forecast: Forecast, shape: Shape, ways: Uint8Array): Uint8Array {
  const needed = shape.isUsed.map((used) => 1 - used)
  for (let index = forecast.length - 1; index >= 0; index -= 1) {
    if (needed[index] !== 1 || ways[index] !== run) continue
    for (const input of forecast[index]?.inputs ?? []) needed[input] = 1
  }
  return needed
}

function longest(values: Float64Array, indexes: readonly number[]): number {
  let most = 0
  for (const index of indexes) most = Math.max(most, values[index] ?? 0)
  return most
}
