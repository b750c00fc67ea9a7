import { createPublicKey } from 'node:crypto'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { silentLogger } from '../../core/log.ts'
import { type Advertiser, held, startAdvertiser } from '../../mesh/adverts/advertisers.fixture.ts'
import { identityOfKey, issueMembership, openMembershipAuthority } from '../../mesh/index.ts'
import { openKeyFile } from '../../mesh/key-file.ts'
import {
  createRealm,
  eventually,
  type Realm,
  startPeer,
  temporaryFolder,
} from '../../mesh/peers.fixture.ts'
import { openState, type State } from '../state/index.ts'
import { createHubOffice } from './hub-office.ts'
import { openCoordinatorMesh } from './index.ts'

/** A busy machine shakes hands slowly. */
const limitMs = 120_000
const minuteMs = 60_000

async function openTestState(t: ExecutionContext, folder: string): Promise<State> {
  const history = { buildsMax: 10, ageMs: minuteMs, solvesPerBuildMax: 10 }
  const state = openState({ folder, history })
  t.teardown(() => state[Symbol.asyncDispose]())
  return state
}

function putNode(state: State, peerId: string, membership: Uint8Array): void {
  const id = `node-${peerId.slice(-8)}`
  state.nodes.put(id, {
    ...{ id, name: id, platform: 'linux/amd64', buildAddress: '', controlAddress: '' },
    ...{ version: '', publicKeyHash: '', joinedAtMs: 0, lastSeenAtMs: 0, peerId },
    membership: Buffer.from(membership),
  })
}

/** An office whose fleet is said to be there or not; what it signs is real. */
async function openOffice(t: ExecutionContext, fleet: number) {
  const folder = await temporaryFolder(t)
  const state = await openTestState(t, path.join(folder, 'state'))
  const authority = await openMembershipAuthority({ folder })
  const privateKey = await openKeyFile(path.join(folder, 'authority', 'membership.pem'), '')
  const realm: Realm = { privateKey, publicKey: authority.publicKey }
  const { host } = await startPeer(t, realm, { roles: ['coordinator'] })
  const present = new Set<string>()
  let nowMs = 0
  for (let number = 0; number < fleet; number += 1) {
    const { peerId } = identityOfKey(createRealm().privateKey)
    const membership = issueMembership(
      privateKey,
      {
        ...{ peerId, nodeId: `node-${peerId.slice(-8)}`, roles: ['node', 'linux/amd64'] },
        ...{ addresses: ['/ip4/127.0.0.1/tcp/9'], bulkAddress: '' },
      },
      { nowMs: Date.now() - 1_000 },
    )
    putNode(state, peerId, membership)
    host.learn([membership])
    present.add(peerId)
  }
  const office = createHubOffice(
    { host, state, authority, isPresent: (id) => present.has(id), log: silentLogger },
    { now: () => nowMs, fullMeshMax: 10 },
  )
  t.teardown(() => office[Symbol.dispose]())
  const hubs = () => [...present].filter(office.isHub)
  return {
    ...{ office, state, host, present, hubs },
    pass(ms: number) {
      nowMs += ms
    },
  }
}

test('a small mesh has no hubs; one that grows has three, of whom all are told', async (t) => {
  const small = await openOffice(t, 6)
  small.office.reconsider()
  t.deepEqual(small.hubs(), [])
  const [somebody = ''] = small.present
  t.is(small.office.newsFor(somebody).length, 1, 'its own membership')

  const large = await openOffice(t, 9)
  large.office.reconsider()
  const hubs = large.hubs()
  t.is(hubs.length, 3)
  const other = [...large.present].find((peerId) => !hubs.includes(peerId)) ?? ''
  t.is(large.office.newsFor(other).length, 4)
  t.is(large.office.newsFor(hubs[0] ?? '').length, 3)
  large.office.reconsider()
  t.deepEqual(large.hubs(), hubs, 'who is one stays one')
  for (const { peerId = '', membership } of large.state.nodes.list()) {
    t.deepEqual(
      membership,
      Buffer.from(large.host.membershipOf(peerId) ?? []),
      'it is written down',
    )
    t.true(large.host.member(peerId)?.membership.roles.includes('linux/amd64'))
  }
})

test('a hub that is away for long is replaced, and all are told that it is none any more', async (t) => {
  const { office, host, present, hubs, pass } = await openOffice(t, 9)
  office.reconsider()
  const [gone = '', ...others] = hubs()
  present.delete(gone)
  office.reconsider()
  pass(30_000)
  office.reconsider()
  t.true(office.isHub(gone), 'it may only be starting again')
  pass(40_000)
  await eventually(() => {
    office.reconsider()
    return !office.isHub(gone)
  }, 'the end of its office')
  t.is(hubs().length, 3)
  t.true(others.every(office.isHub))
  const [somebody = ''] = [...present].filter((peerId) => !office.isHub(peerId))
  const told = office.newsFor(somebody)
  t.is(told.length, 5)
  t.true(told.some((signed) => Buffer.compare(signed, host.membershipOf(gone) ?? signed) === 0))
})

test('nodes that heartbeats have made hubs relay to the whole mesh, the coordinator among them', async (t) => {
  const folder = await temporaryFolder(t)
  const state = await openTestState(t, path.join(folder, 'state'))
  const relay = { fullMeshMax: 5, gapMs: 100, hubPatienceMs: 1_000 }
  const coordinator = await openCoordinatorMesh(
    { state, log: silentLogger },
    { folder, listen: { host: '127.0.0.1', port: 0 }, now: Date.now, relay },
  )
  t.teardown(() => coordinator[Symbol.asyncDispose]())
  const privateKey = await openKeyFile(path.join(folder, 'authority', 'membership.pem'), '')
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  const nodes: Advertiser[] = []
  for (let number = 0; number < 7; number += 1) {
    const node = await startAdvertiser(t, { privateKey, publicKey }, { relay })
    const enrolment = coordinator.enrol({
      ...{ nodeId: `node-${node.host.peerId.slice(-8)}`, peerId: node.host.peerId },
      ...{ platform: 'linux/amd64', meshAddresses: node.host.addresses(), bulkAddress: '' },
      ...{ otherAddresses: [], withToken: true },
    })
    putNode(state, node.host.peerId, enrolment.membership)
    node.host.renew(enrolment.membership)
    node.host.learn(enrolment.roster)
    nodes.push(node)
  }
  // As heartbeats would.
  const calling = setInterval(() => {
    for (const { host } of nodes) {
      const [own, ...others] = coordinator.newsFor(host.peerId)
      if (own !== undefined && Buffer.compare(own, host.membership()) !== 0) host.renew(own)
      host.learn(others)
    }
  }, 200)
  t.teardown(() => clearInterval(calling))

  const areHubs = () => nodes.filter((node) => node.relay.standing().isHub).length
  await eventually(() => areHubs() === 3, 'three hubs', limitMs)
  const all = [...nodes.map((node) => node.relay), coordinator.mesh.relay]
  await eventually(
    () => all.every((each) => each.standing().hubs.length === 2 && !each.standing().isFullMesh),
    'the end of the full mesh',
    limitMs,
  )
  for (const [number, node] of nodes.entries()) await node.adverts.publish([held(number)])
  await eventually(
    () =>
      nodes.every(({ host, adverts }) => {
        const known = coordinator.mesh.index.position(host.peerId)
        return known?.sequence === adverts.position().sequence && coordinator.isPresent(host.peerId)
      }),
    'all news at the coordinator',
    limitMs,
  )
  t.true(nodes.some((node) => !coordinator.mesh.host.member(node.host.peerId)?.connected))
  t.true(
    nodes.every(({ host }) => {
      const roles = coordinator.mesh.host.member(host.peerId)?.membership.roles ?? []
      return roles.includes('linux/amd64') && roles.includes('node')
    }),
  )
})
