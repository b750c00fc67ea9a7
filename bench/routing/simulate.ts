/**
 * Plays a history on simulated nodes. Every policy meets the same nodes: the same slots, the same fetching from
 * peers (which begins when the build is placed), the same noise in what a step really takes. They differ in
 * where they send a build. What a policy knows is what a coordinator would: adverts, recorded durations, its own
 * estimates of the builds under way.
 */

import { estimateWork, type Forecast, type Warmth } from '../../coordinator/routing/index.ts'
import type { Digest } from '../../core/digest.ts'
import type { SimulatedBuild, SimulatedStep } from './history.ts'
import type { SeededRandom } from './seeded-random.ts'

export interface SimulatedNode {
  readonly id: string
  readonly slots: number
  /** Builds placed here that have not ended, in the order of their coming. */
  readonly builds: readonly PlacedBuild[]
}

export interface PlacedBuild {
  readonly startedAtMs: number | undefined
  /** What the policy thought it would take from its start, for those who think about that. */
  readonly expectedMs: number | undefined
}

export interface View {
  readonly nowMs: number
  readonly nodes: readonly SimulatedNode[]
  /** What adverts and records tell of a build's steps. */
  readonly forecast: Forecast
  warmth(nodeId: string): Warmth
}

export interface Policy {
  readonly name: string
  choose(build: SimulatedBuild, view: View): { nodeId: string; expectedMs?: number }
}

export interface World {
  readonly nodes: number
  readonly slots: number
  readonly peerBytesPerMs: number
  /** Of the real durations, at one standard deviation. */
  readonly noise: number
}

/** @returns for each build the milliseconds from request to answer, queue included. */
export function simulate(
  history: readonly SimulatedBuild[],
  policy: Policy,
  world: World,
  random: SeededRandom,
): number[] {
  const nodes = Array.from({ length: world.nodes }, (_, index) => createNode(`n${index}`, world))
  const recorded = new Map<string, number>()
  const made = new Set<string>()
  const waits: number[] = []
  const arrivals = [...history.entries()]
  for (;;) {
    const [arrival] = arrivals
    const ending = earliestEnd(nodes)
    if (ending !== undefined && (arrival === undefined || ending.atMs <= arrival[1].arrivesAtMs)) {
      const { node, build, atMs } = ending
      node.end(build)
      waits[build.index] = atMs - build.build.arrivesAtMs
      for (const step of build.build.steps) made.add(step.key)
      for (const { step, tookMs } of build.ran) recorded.set(step.operation, tookMs)
      node.startWaiting(atMs, starting)
    } else if (arrival !== undefined) {
      arrivals.shift()
      const [index, build] = arrival
      const nowMs = build.arrivesAtMs
      const forecast = forecastOf(build, recorded, made)
      const warmth = (id: string): Warmth => warmthOf(nodeOf(nodes, id), nodes, build, world)
      const choice = policy.choose(build, { nowMs, nodes, forecast, warmth })
      const node = nodeOf(nodes, choice.nodeId)
      node.place({ index, build, expectedMs: choice.expectedMs })
      node.startWaiting(nowMs, starting)
    } else return waits
  }

  /** What really happens when a build starts, which no policy sees. */
  function starting(node: Node, placed: Placed, nowMs: number): { endsAtMs: number; ran: Ran[] } {
    const { build } = placed
    const real: { step: SimulatedStep; tookMs: number }[] = build.steps.map((step) => ({
      step,
      tookMs: step.runMs * random.noise(world.noise),
    }))
    const forecast = real.map(({ step, tookMs }) => ({
      inputs: step.inputs,
      runMs: tookMs,
      layers: made.has(step.key) ? step.layers : undefined,
    }))
    const work = estimateWork(forecast, warmthOf(node, nodes, build, world))
    const fetchedAtMs = build.arrivesAtMs + work.moveMs * random.noise(world.noise)
    const endsAtMs = Math.max(nowMs, fetchedAtMs) + work.unpackMs + work.runMs
    return { endsAtMs, ran: real.filter(({ step }) => !made.has(step.key)) }
  }
}

interface Ran {
  step: SimulatedStep
  tookMs: number
}

interface Placed extends PlacedBuild {
  readonly index: number
  readonly build: SimulatedBuild
  startedAtMs: number | undefined
  endsAtMs: number
  ran: Ran[]
}

interface Node extends SimulatedNode {
  readonly builds: Placed[]
  readonly hot: Set<string>
  readonly held: Set<Digest>
  place(build: { index: number; build: SimulatedBuild; expectedMs: number | undefined }): void
  startWaiting(
    nowMs: number,
    start: (node: Node, build: Placed, nowMs: number) => { endsAtMs: number; ran: Ran[] },
  ): void
  end(build: Placed): void
}

function createNode(id: string, world: World): Node {
  const builds: Placed[] = []
  const hot = new Set<string>()
  const held = new Set<Digest>()
  const node: Node = {
    id,
    slots: world.slots,
    builds,
    hot,
    held,
    place(build) {
      builds.push({ ...build, startedAtMs: undefined, endsAtMs: Number.POSITIVE_INFINITY, ran: [] })
    },
    startWaiting(nowMs, start) {
      const free =
        world.slots - builds.filter(({ startedAtMs }) => startedAtMs !== undefined).length
      const waiting = builds.filter(({ startedAtMs }) => startedAtMs === undefined)
      for (const build of waiting.slice(0, Math.max(0, free))) {
        build.startedAtMs = nowMs
        Object.assign(build, start(node, build, nowMs))
      }
    },
    end(build) {
      builds.splice(builds.indexOf(build), 1)
      for (const step of build.build.steps) {
        hot.add(step.key)
        for (const { digest } of step.layers) held.add(digest)
      }
    },
  }
  return node
}

function earliestEnd(nodes: readonly Node[]) {
  let first: { node: Node; build: Placed; atMs: number } | undefined
  for (const node of nodes) {
    for (const build of node.builds) {
      if (build.endsAtMs < (first?.atMs ?? Number.POSITIVE_INFINITY)) {
        first = { node, build, atMs: build.endsAtMs }
      }
    }
  }
  return first
}

function forecastOf(
  build: SimulatedBuild,
  recorded: ReadonlyMap<string, number>,
  made: ReadonlySet<string>,
): Forecast {
  return build.steps.map((step) => ({
    inputs: step.inputs,
    runMs: recorded.get(step.operation) ?? unknownRunMs,
    layers: made.has(step.key) ? step.layers : undefined,
  }))
}

/** Of an operation that nobody has recorded yet. */
const unknownRunMs = 10_000

function warmthOf(node: Node, nodes: readonly Node[], build: SimulatedBuild, world: World): Warmth {
  return {
    isHot: (step) => node.hot.has(build.steps[step]?.key ?? ''),
    bringMs({ digest, bytes }) {
      if (node.held.has(digest)) return 0
      const hasSource = nodes.some((peer) => peer.held.has(digest))
      return hasSource ? bytes / world.peerBytesPerMs : undefined
    },
  }
}

function nodeOf(nodes: readonly Node[], id: string): Node {
  const node = nodes.find((each) => each.id === id)
  if (node === undefined) throw new RangeError(`no node ${id}`)
  return node
}
