/** Nodes of one coordinator in the mesh: what they tell each other, and who is let in. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { noise } from '@chainsafe/libp2p-noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import test from 'ava'
import { createLibp2p } from 'libp2p'
import { connectTestClient, eventually, limit, startTestCoordinator } from '../control/parts.ts'
import { allConnected, scope, startPeeringMesh } from './parts.ts'

test.serial('what one node gains and loses, the others and the coordinator know', async (t) => {
  await using mesh = await startPeeringMesh()
  const [one, two, three] = [await mesh.add('one'), await mesh.add('two'), await mesh.add('three')]
  await allConnected([one, two, three])
  const digest = await one.hold(randomBytes(5_000))
  for (const node of [two, three]) {
    await eventually(
      () => node.holders(digest),
      (holders) => holders[0] === one.id,
    )
  }
  t.deepEqual(one.holders(digest), [])
  await two.sources.bring(scope, { digest, size: 5_000 }, { signal: limit() })
  t.truthy(two.store.stat(scope, digest))
  await eventually(
    () => three.holders(digest),
    (holders) => holders.join() === [one.id, two.id].sort().join(),
  )
  await one.store.remove(scope, digest)
  await eventually(
    () => three.holders(digest),
    (holders) => holders.join() === two.id,
  )

  using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
  const { nodes } = await eventually(
    () => client.nodes(),
    (reply) => reply.nodes.every(({ inMesh }) => inMesh),
  )
  t.deepEqual(
    nodes.map(({ peerId }) => peerId).sort(),
    [one, two, three].map((node) => node.peerId).sort(),
  )
})

test.serial(
  'while the coordinator is away, adverts and blobs flow, and a node that restarts is back',
  async (t) => {
    await using mesh = await startPeeringMesh()
    const [one, two] = [await mesh.add('one'), await mesh.add('two')]
    await allConnected([one, two])
    const early = await one.hold(randomBytes(70_000))
    await one.peering.adverts.compared()
    await mesh.coordinator[Symbol.asyncDispose]()

    const late = await two.hold(randomBytes(70_000))
    await eventually(
      () => one.holders(late),
      (holders) => holders[0] === two.id,
    )
    const brought = await one.sources.bring(
      scope,
      { digest: late, size: 70_000 },
      { signal: limit() },
    )
    t.is(brought.type, 'brought')

    await two[Symbol.asyncDispose]()
    await eventually(
      () => one.holders(late),
      (holders) => holders.length === 0,
    )
    const again = await mesh.add('two', { heard: false })
    t.is(again.id, two.id)
    t.deepEqual(again.peering.addresses, two.peering.addresses)
    await allConnected([one, again])
    await eventually(
      () => one.holders(late),
      (holders) => holders[0] === again.id,
    )
    await eventually(
      () => again.holders(early),
      (holders) => holders[0] === one.id,
    )
    const fetched = await again.sources.bring(
      scope,
      { digest: early, size: 70_000 },
      { signal: limit() },
    )
    t.is(fetched.type, 'brought')

    const { port } = mesh.coordinator
    mesh.coordinator = await startTestCoordinator(mesh.coordinatorFolder, {
      port,
      heartbeatMs: 200,
    })
    await again.membership.heard({ signal: limit() })
    using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
    await eventually(
      () => client.nodes(),
      (reply) => reply.nodes.every(({ inMesh, online }) => inMesh && online),
    )
  },
)

test.serial(
  'what changed in the store while the node was down is told when it is up again',
  async (t) => {
    await using mesh = await startPeeringMesh()
    const [one, two] = [await mesh.add('one'), await mesh.add('two')]
    await allConnected([one, two])
    const kept = await two.hold(randomBytes(1_000))
    const lost = await two.hold(randomBytes(1_000))
    await eventually(
      () => one.holders(lost),
      (holders) => holders.length === 1,
    )
    // Nobody watches any more when the blob goes.
    await two.peering[Symbol.asyncDispose]()
    await two.store.remove(scope, lost)
    await two[Symbol.asyncDispose]()
    const again = await mesh.add('two')
    await again.peering.adverts.compared()
    await allConnected([one, again])
    await eventually(
      () => one.holders(kept),
      (holders) => holders.length === 1,
    )
    await eventually(
      () => one.holders(lost),
      (holders) => holders.length === 0,
    )
    t.pass()
  },
)

test.serial(
  'a stranger opens nothing but the hello, and the direct road refuses a node without membership',
  async (t) => {
    await using mesh = await startPeeringMesh()
    const [one, two] = [await mesh.add('one'), await mesh.add('two')]
    await allConnected([one, two])
    const digest = await one.hold(randomBytes(1_000))

    const stranger = await createLibp2p({
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
    })
    t.teardown(() => stranger.stop())
    const [address] = one.peering.addresses.mesh
    for (const protocol of ['/hearth/adverts/1', '/hearth/fragments/1']) {
      const connection = await stranger.dial(multiaddr(`${address}/p2p/${one.peerId}`))
      const stream = await connection.newStream(protocol).catch(() => undefined)
      const received: Uint8Array[] = []
      stream?.addEventListener('message', ({ data }) => received.push(data.subarray()))
      await eventually(
        () => connection.status,
        (status) => status !== 'open',
      )
      t.deepEqual(received, [], protocol)
    }

    // A node's certificate alone opens the direct road no more once the membership is taken back.
    using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
    await client.removeNode(two.id)
    await eventually(
      () => one.peering.mesh.host.members().map(({ membership }) => membership.nodeId),
      (ids) => !ids.includes(two.id),
    )
    const source = {
      type: 'node',
      nodeId: one.id,
      host: '127.0.0.1',
      port: one.peering.exchange.port,
    } as const
    const file = path.join(mesh.folder, 'stolen')
    const outcome = await two.peering.exchange.fetch({
      ...{ scope, digest, size: 1_000, file, sources: [source] },
      signal: limit(),
    })
    t.is(outcome.type, 'failed')
    t.false(existsSync(file))
  },
)

test.serial(
  'who was removed stays out over restarts of everybody, and comes back with a join token',
  async (t) => {
    await using mesh = await startPeeringMesh()
    const [one, two] = [await mesh.add('one'), await mesh.add('two')]
    await allConnected([one, two])
    using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
    await client.removeNode(two.id)
    await eventually(
      () => one.peering.mesh.host.member(two.peerId),
      (member) => member === undefined,
    )
    const { port } = mesh.coordinator
    await mesh.coordinator[Symbol.asyncDispose]()
    await one[Symbol.asyncDispose]()
    mesh.coordinator = await startTestCoordinator(mesh.coordinatorFolder, {
      port,
      heartbeatMs: 200,
    })
    const again = await mesh.add('one')
    const verdict = again.peering.mesh.host.learn([two.peering.mesh.host.membership()])
    t.is(verdict.learned, 0)
    t.is(again.peering.mesh.host.member(two.peerId), undefined)

    await two[Symbol.asyncDispose]()
    // Its identity is gone, and its peer's key is still there.
    await rename(path.join(two.folder, 'identity'), path.join(two.folder, 'identity-of-before'))
    const back = await mesh.add('two', { joinToken: await mesh.coordinator.newJoinToken() })
    t.not(back.id, two.id)
    t.is(back.peerId, two.peerId)
    await allConnected([again, back])
  },
)

test.serial(
  'a membership is renewed after a third of its day, and others see the new one',
  async (t) => {
    await using mesh = await startPeeringMesh()
    let aheadMs = 0
    const one = await mesh.add('one')
    const two = await mesh.add('two', { now: () => Date.now() + aheadMs })
    await allConnected([one, two])
    const seenByOne = () => one.peering.mesh.host.member(two.peerId)?.membership.issuedAtMs ?? 0
    const first = await eventually(seenByOne, (ms) => ms > 0)
    let interrupted = false
    using _ = one.peering.mesh.host.onPeer(({ type }) => {
      if (type !== 'connected') interrupted = true
    })
    const hourMs = 60 * 60_000
    aheadMs = 7 * hourMs
    const heartbeat = async () => {
      const { lastSeenAt } = (await client.nodes()).nodes.find(({ id }) => id === two.id) ?? {}
      return lastSeenAt?.getTime() ?? 0
    }
    using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
    const seenAtMs = await heartbeat()
    await eventually(heartbeat, (ms) => ms > seenAtMs + 500)
    t.is(seenByOne(), first, 'not before its time')
    aheadMs = 9 * hourMs
    await eventually(seenByOne, (ms) => ms > first)
    t.false(interrupted)
  },
)

test.serial(
  'a folder of the mesh that a disk has damaged costs what was known, not the node',
  async (t) => {
    await using mesh = await startPeeringMesh()
    const [one, two] = [await mesh.add('one'), await mesh.add('two')]
    await allConnected([one, two])
    const digest = await two.hold(randomBytes(1_000))
    await eventually(
      () => one.holders(digest),
      (holders) => holders.length === 1,
    )
    await two[Symbol.asyncDispose]()
    for (const name of ['roster', 'advert-log', 'digest-index/data', 'fragments']) {
      await writeFile(path.join(two.folder, 'mesh', name, 'data.mdb'), randomBytes(8_192))
    }
    const again = await mesh.add('two')
    t.is(again.peerId, two.peerId)
    await allConnected([one, again])
    await again.peering.adverts.compared()
    const later = await again.hold(randomBytes(1_000))
    await eventually(
      () => [digest, later].map((each) => one.holders(each)[0]),
      (holders) => holders.every((holder) => holder === two.id),
    )
    t.is(one.peering.mesh.index.nodes().filter(({ alive }) => alive).length, 2)
  },
)

test.serial(
  'nodes become hubs by their heartbeats, and stay hubs while the coordinator is away',
  async (t) => {
    await using mesh = await startPeeringMesh({ relay: { fullMeshMax: 4, gapMs: 100 } })
    const nodes = [await mesh.add('n0'), await mesh.add('n1')]
    for (const name of ['n2', 'n3', 'n4']) nodes.push(await mesh.add(name))
    const standing = (node: (typeof nodes)[number]) => node.peering.mesh.relay.standing()
    const areHubs = () => nodes.filter((node) => standing(node).isHub)
    await eventually(areHubs, (hubs) => hubs.length === 3)
    await eventually(
      () => nodes.map(standing),
      // More where one of them did not answer at once: it did not know yet that it is a hub.
      (all) => all.every(({ isFullMesh, hubs }) => !isFullMesh && hubs.length >= 2),
    )
    const [leaf, other] = nodes.filter((node) => !standing(node).isHub)
    if (leaf === undefined || other === undefined) return t.fail()
    const early = await leaf.hold(randomBytes(5_000))
    await eventually(
      () => other.holders(early),
      (holders) => holders.join() === leaf.id,
    )
    await other.sources.bring(scope, { digest: early, size: 5_000 }, { signal: limit() })
    t.truthy(other.store.stat(scope, early))
    using client = connectTestClient(mesh.coordinator, mesh.coordinator.adminToken)
    await eventually(
      () => client.nodes(),
      (reply) => reply.nodes.every(({ inMesh }) => inMesh),
    )

    await mesh.coordinator[Symbol.asyncDispose]()
    const [hub] = areHubs()
    if (hub === undefined) return t.fail()
    await hub[Symbol.asyncDispose]()
    const again = await mesh.add(path.basename(hub.folder), { heard: false })
    t.true(standing(again).isHub)
    const late = await again.hold(randomBytes(5_000))
    await eventually(
      () => [leaf, other].map((node) => node.holders(late).join()),
      (holders) => holders.every((each) => each === hub.id),
    )
  },
)
