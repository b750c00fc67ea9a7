/** Ways to choose a node: Hearth's own code, and what others do. */
import { createHash } from 'node:crypto'
import { type Candidate, route } from '../../coordinator/routing/index.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { Policy, SimulatedNode } from './simulate.ts'

const platform = 'linux/amd64'

/** The coordinator's router, with what a coordinator knows. */
export const hearth: Policy = {
  name: 'hearth',
  choose(_build, { nowMs, nodes, forecast, warmth }) {
    const candidates = nodes.map((node) => candidateOf(node, nowMs))
    const decision = route(candidates, {
      platform,
      lastNodeId: undefined,
      forecast: { steps: forecast, warmth },
    })
    if (decision.type === 'none') throw new RangeError(decision.reason)
    const { unpackMs = 0, runMs = 0 } = decision.estimate
    return { nodeId: decision.nodeId, expectedMs: unpackMs + runMs }
  },
}

function candidateOf(node: SimulatedNode, nowMs: number): Candidate {
  const running = node.builds.filter(({ startedAtMs }) => startedAtMs !== undefined)
  const queued = node.builds.filter(({ startedAtMs }) => startedAtMs === undefined)
  const remainingMs = [...running, ...queued].map(
    ({ startedAtMs, expectedMs = 0 }) => expectedMs - (nowMs - (startedAtMs ?? nowMs)),
  )
  return {
    id: node.id,
    name: node.id,
    platform,
    online: true,
    load: {
      slots: node.slots,
      slotsUsed: running.length,
      queued: queued.length,
      draining: false,
    },
    remainingMs,
  }
}

export function randomNode(random: SeededRandom): Policy {
  return { name: 'random', choose: (_build, { nodes }) => ({ nodeId: random.pick(nodes).id }) }
}

/** A hash of the project's name, modulo the number of nodes. */
export const stickyHash: Policy = {
  name: 'sticky hash',
  choose(build, { nodes }) {
    const node = nodes[hashOf(build.project) % nodes.length]
    if (node === undefined) throw new RangeError('no nodes')
    return { nodeId: node.id }
  },
}

/** The node whose hash together with the project's name is the highest. */
export const rendezvousHash: Policy = {
  name: 'rendezvous hash',
  choose(build, { nodes }) {
    const score = (node: SimulatedNode): number => hashOf(`${build.project} ${node.id}`)
    return { nodeId: nodes.reduce((best, node) => (score(node) > score(best) ? node : best)).id }
  },
}

export const leastLoaded: Policy = {
  name: 'least loaded',
  choose(_build, { nodes }) {
    const load = (node: SimulatedNode): number => node.builds.length / node.slots
    return { nodeId: nodes.reduce((best, node) => (load(node) < load(best) ? node : best)).id }
  },
}

function hashOf(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE()
}
