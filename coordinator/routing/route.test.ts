import test from 'ava'
import fc from 'fast-check'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import {
  type Candidate,
  explainNone,
  type Layer,
  normalPlatform,
  type RouteRequest,
  route,
} from './index.ts'

function node(
  id: string,
  change: Partial<Omit<Candidate, 'load'>> & { load?: Partial<Candidate['load']> } = {},
): Candidate {
  const load = { slots: 2, slotsUsed: 0, queued: 0, draining: false, ...change.load }
  return { id, name: id, platform: 'linux/amd64', online: true, ...change, load }
}

function ask(change: Partial<RouteRequest> = {}): RouteRequest {
  return { platform: 'linux/amd64', lastNodeId: undefined, ...change }
}

function order(nodes: readonly Candidate[], request = ask()): string[] {
  const decision = route(nodes, request)
  if (decision.type === 'none') return []
  return [decision.nodeId, ...decision.runnersUp.map(({ nodeId }) => nodeId)]
}

test('with one node it is that one, and the reason says so', (t) => {
  t.deepEqual(route([node('a')], ask()), {
    type: 'chosen',
    nodeId: 'a',
    reason: 'the only node for linux/amd64',
    estimate: { queueMs: 0, endMs: 0 },
    runnersUp: [],
  })
})

test('the shortest queue wins, by slot; what is full comes last', (t) => {
  const full = node('full', { load: { slotsUsed: 2, queued: 4 } })
  const busy = node('busy', { load: { slotsUsed: 2 } })
  const large = node('large', { load: { slots: 8, slotsUsed: 8, queued: 1 } })
  const free = node('free', { load: { slotsUsed: 1 } })
  t.deepEqual(order([full, busy, large, free]), ['free', 'large', 'busy', 'full'])
})

test('among nodes that could begin at once, the one that built the project last wins', (t) => {
  const nodes = [node('a'), node('b', { load: { slotsUsed: 1 } }), node('c')]
  t.deepEqual(order(nodes, ask({ lastNodeId: 'b' })), ['b', 'a', 'c'])
  const full = node('b', { load: { slotsUsed: 2 } })
  t.deepEqual(order([node('a'), full], ask({ lastNodeId: 'b' })), ['a', 'b'])
})

test('a node without room on its disk comes last, and still before none', (t) => {
  const full = node('a', { load: { diskLow: true } })
  const busy = node('b', { load: { slotsUsed: 2, queued: 9 } })
  t.deepEqual(order([full, busy], ask({ lastNodeId: 'a' })), ['b', 'a'])
  t.deepEqual(order([full]), ['a'])
})

test('a platform is built where it is native, whatever its variant is called', (t) => {
  const nodes = [node('amd'), node('arm', { platform: 'linux/arm64' })]
  for (const [platform, expected] of [
    ['linux/amd64', 'amd'],
    ['linux/amd64/v3', 'amd'],
    ['linux/x86_64', 'amd'],
    ['linux/arm64/v8', 'arm'],
    ['Linux/aarch64', 'arm'],
  ] as const) {
    t.deepEqual(order(nodes, ask({ platform })), [expected])
  }
})

test('a platform that no node builds is an error that names those they do', (t) => {
  const nodes = [node('amd', { online: false }), node('arm', { platform: 'linux/arm64' })]
  const request = ask({ platform: 'linux/s390x' })
  const decision = route(nodes, request)
  if (decision.type !== 'none') return t.fail()
  t.is(decision.reason, 'platform unknown')
  const error = explainNone(decision, request.platform)
  t.is(error.code, 'invalid-input')
  t.is(error.message, 'no node builds linux/s390x natively')
  t.is(error.hint, 'the nodes build linux/amd64, linux/arm64')
})

test('why there is no node is told apart', (t) => {
  const reason = (nodes: Candidate[]) => {
    const decision = route(nodes, ask())
    return decision.type === 'none' ? decision.reason : decision.nodeId
  }
  t.is(reason([]), 'no nodes')
  t.is(reason([node('a', { online: false })]), 'all offline')
  t.is(
    reason([node('a', { load: { draining: true } }), node('b', { online: false })]),
    'all draining',
  )
})

test('a build without a platform keeps its architecture when machines are away', (t) => {
  const arm = node('arm', { platform: 'linux/arm64' })
  t.deepEqual(order([arm], ask({ platform: undefined })), ['arm'])
  t.deepEqual(order([arm, node('amd')], ask({ platform: undefined })), ['amd'])
  t.deepEqual(order([arm, node('amd', { online: false })], ask({ platform: undefined })), [])
})

test('platforms are written as os/arch', (t) => {
  t.is(normalPlatform('linux/arm'), 'linux/arm/v7')
  t.is(normalPlatform('linux/arm/v6'), 'linux/arm/v6')
  for (const bad of [
    '',
    'amd64',
    'linux',
    'linux/',
    'a/b/c/d',
    'linux/amd64 ',
    `linux/${'a'.repeat(40)}`,
  ]) {
    t.throws(() => normalPlatform(bad), { instanceOf: HearthError })
  }
})

test('whatever the nodes are, only native ones that are well are named, each once, always alike', (t) => {
  const candidates = fc.uniqueArray(
    fc.record({
      id: fc.string({ minLength: 1, maxLength: 3 }),
      name: fc.constant('n'),
      platform: fc.constantFrom('linux/amd64', 'linux/arm64'),
      online: fc.boolean(),
      load: fc.record({
        slots: fc.nat(4),
        slotsUsed: fc.nat(5),
        queued: fc.nat(5),
        draining: fc.boolean(),
      }),
    }),
    { selector: ({ id }) => id },
  )
  const platforms = fc.constantFrom('linux/amd64', 'linux/arm64', undefined)
  fc.assert(
    fc.property(candidates, platforms, (nodes, platform) => {
      const request = ask({ platform })
      const named = order(nodes, request)
      t.is(new Set(named).size, named.length)
      const chosen = named.map((id) => nodes.find((candidate) => candidate.id === id))
      t.true(chosen.every((found) => found?.online === true && !found.load.draining))
      t.true(new Set(chosen.map((found) => found?.platform)).size <= 1)
      t.deepEqual(order(nodes.toReversed(), request), named)
    }),
  )
})

const layer = { digest: digestOf('layer'), bytes: 60_000_000 }

/** One step of a minute, whose layer the nodes named hold; the others fetch it. */
function forecastWith(holders: readonly string[], bytesPerMs: number) {
  return {
    steps: [{ inputs: [], runMs: 60_000, layers: [layer] }],
    warmth: (nodeId: string) => ({
      isHot: () => holders.includes(nodeId),
      bringMs: ({ bytes }: Layer) => bytes / bytesPerMs,
    }),
  }
}

test('a build goes where it ends first, which is where its work is done', (t) => {
  const nodes = [node('cold'), node('warm', { load: { slotsUsed: 1 } })]
  const decision = route(nodes, ask({ forecast: forecastWith(['warm'], 100_000) }))
  t.like(decision, {
    ...{ nodeId: 'warm', estimate: { endMs: 0, stepsReused: 1, bytesMoved: 0 } },
    reason: '0.0 s: reuses 1 of 1 steps; 1 of 2 slots free',
    runnersUp: [
      { nodeId: 'cold', reason: '2.6 s: reuses 1 of 1 steps; 2 of 2 slots free; 60 MB to fetch' },
    ],
  })
})

test('a hot spot spills to the node that fetches faster than the queue moves', (t) => {
  const warm = (remainingMs: number[]) =>
    node('warm', { load: { slots: 1, slotsUsed: 1 }, remainingMs })
  const request = ask({ forecast: forecastWith(['warm'], 20_000) })
  t.is(order([node('cold'), warm([4_000])], request)[0], 'warm')
  t.is(order([node('cold'), warm([6_000])], request)[0], 'cold')
})

test('estimates that are alike leave a build where the project was last', (t) => {
  const nodes = [node('a'), node('b')]
  const request = ask({ forecast: forecastWith([], 1_000_000), lastNodeId: 'b' })
  t.is(order(nodes, request)[0], 'b')
})

test('what a build takes besides its steps counts by whether one of them has to run', (t) => {
  const around = { aroundMs: 2_000, aroundReusedMs: 500 }
  const endMs = (layers: readonly Layer[] | undefined, isHot: boolean): number | undefined => {
    const forecast = {
      steps: [{ inputs: [], runMs: 10_000, layers }],
      warmth: () => ({ isHot: () => isHot, bringMs: () => 100 }),
      ...around,
    }
    const decision = route([node('a')], ask({ forecast }))
    return decision.type === 'chosen' ? decision.estimate.endMs : undefined
  }
  t.is(endMs([layer], true), 500)
  t.is(endMs([layer], false), 100 + 2_000 + 500, 'brought and unpacked')
  t.is(endMs(undefined, false), 10_000 + 2_000)
})
