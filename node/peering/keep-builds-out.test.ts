import test from 'ava'
import { silentLogger } from '../../core/log.ts'
import type { Member, Membership } from '../../mesh/index.ts'
import { keepBuildsOut } from './keep-builds-out.ts'

function memberAt(host: string): Member {
  const membership: Membership = {
    peerId: `peer of ${host}`,
    nodeId: `node of ${host}`,
    roles: ['node'],
    addresses: [`/ip4/${host}/tcp/7000`],
    bulkAddress: `${host}:7001`,
    otherAddresses: [`${host}:7002`],
    issuedAtMs: 0,
    expiresAtMs: 1,
  }
  return { membership, connected: true, roundTripMs: undefined }
}

/** A mesh that grows by hand, and daemons that note what is denied to them. */
function createParts() {
  const members: Member[] = [memberAt('192.0.2.7')]
  const listeners = new Set<(membership: Membership) => void>()
  const denials: string[][] = []
  const waiting: (() => void)[] = []
  return {
    denials,
    next: () => new Promise<void>((resolve) => waiting.push(resolve)),
    add(member: Member) {
      members.push(member)
      for (const listener of listeners) listener(member.membership)
    },
    deps: {
      log: silentLogger,
      host: {
        members: () => members,
        onMember(listener: (membership: Membership) => void) {
          listeners.add(listener)
          return { [Symbol.dispose]: () => void listeners.delete(listener) }
        },
      },
      daemons: {
        async deny(destinations: readonly string[]) {
          denials.push([...destinations])
          for (const resolve of waiting.splice(0)) resolve()
        },
      },
    },
  }
}

test('builds are kept from the ports of this node, its coordinator and every member, as it becomes known', async (t) => {
  const { deps, denials, next, add } = createParts()
  const always = ['192.0.2.1:4327', '/ip4/192.0.2.2/tcp/5000', '127.0.0.1:6000', '[2001:db8::1]:80']
  await using _kept = await keepBuildsOut(deps, { always, gatherMs: 10 })
  const first = [
    '192.0.2.1:4327',
    '192.0.2.2:5000',
    '192.0.2.7:7000',
    '192.0.2.7:7001',
    '192.0.2.7:7002',
  ]
  t.deepEqual(denials, [first])
  const told = next()
  add(memberAt('192.0.2.8'))
  add(memberAt('127.0.0.1'))
  await told
  t.deepEqual(denials[1], [...first, '192.0.2.8:7000', '192.0.2.8:7001', '192.0.2.8:7002'])
})

test('a machine that is named is kept out by its addresses', async (t) => {
  const { deps, denials, next, add } = createParts()
  await using _kept = await keepBuildsOut(deps, {
    always: ['no-such-host.invalid:1'],
    gatherMs: 10,
  })
  t.is(denials.length, 1)
  const told = next()
  add(memberAt('192.0.2.9'))
  await told
  t.is(denials[1]?.length, 6)
})
