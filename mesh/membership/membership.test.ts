import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { HearthError } from '../../core/errors.ts'
import { openPeerIdentity } from '../host/index.ts'
import {
  createMembershipVerifier,
  issueMembership,
  type MembershipRefusal,
  openMembershipAuthority,
  renewAfterMs,
} from './index.ts'

const hourMs = 60 * 60_000
const nowMs = Date.UTC(2026, 0, 1)
const { privateKey } = generateKeyPairSync('ed25519')
const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
const member = {
  peerId: '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8',
  nodeId: 'n1',
  roles: ['node'],
  addresses: ['/ip4/192.0.2.7/tcp/7000'],
  bulkAddress: '192.0.2.7:7001',
}
const verdictAt = (atMs: number, signed: Uint8Array, peerId: string | undefined = member.peerId) =>
  createMembershipVerifier({ publicKeys: [publicKey], now: () => atMs }).verify(signed, peerId)

test('what the coordinator signed is read back, and renewed after a third of a day', (t) => {
  const verdict = verdictAt(nowMs, issueMembership(privateKey, member, { nowMs }))
  if (verdict.type === 'refused') return t.fail(verdict.reason)
  t.deepEqual(verdict.membership, {
    ...member,
    otherAddresses: [],
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + 24 * hourMs,
  })
  t.is(renewAfterMs(verdict.membership), 8 * hourMs)
})

test('a membership holds between clocks that are an hour apart, in either direction', (t) => {
  const signed = issueMembership(privateKey, member, { nowMs })
  t.is(verdictAt(nowMs - hourMs, signed).type, 'valid')
  t.is(verdictAt(nowMs + 25 * hourMs - 1, signed).type, 'valid')
})

const refused = test.macro({
  exec(t, signed: Uint8Array, reason: MembershipRefusal, options: { atMs?: number } = {}) {
    t.deepEqual(verdictAt(options.atMs ?? nowMs, signed), { type: 'refused', reason })
  },
  title: (title) => `${title} is refused`,
})

const valid = issueMembership(privateKey, member, { nowMs })
const flipped = Buffer.from(valid)
flipped[100] = (flipped[100] ?? 0) ^ 1
const stranger = generateKeyPairSync('ed25519').privateKey
/** Signed by the right key, but not as a membership. */
const body = valid.subarray(64)
const otherStatement = Buffer.concat([sign(null, body, privateKey), body])

test('a flipped bit', refused, flipped, 'not signed by the coordinator')
test('an empty message', refused, Buffer.alloc(0), 'malformed')
test('a message of megabytes', refused, Buffer.alloc(1 << 20), 'malformed')
test(
  "somebody else's signature",
  refused,
  issueMembership(stranger, member, { nowMs }),
  'not signed by the coordinator',
)
test(
  'a signature of the right key over another kind of statement',
  refused,
  otherStatement,
  'not signed by the coordinator',
)
test('a membership long over', refused, valid, 'expired', { atMs: nowMs + 26 * hourMs })
test('a membership of the future', refused, valid, 'not valid yet', { atMs: nowMs - 3 * hourMs })
test(
  "another peer's membership",
  refused,
  issueMembership(privateKey, { ...member, peerId: member.peerId.replace(/.$/, '9') }, { nowMs }),
  'issued to another peer',
)

test('a member with an address that is none is not signed', (t) => {
  const error = t.throws(
    () => issueMembership(privateKey, { ...member, addresses: ['192.0.2.7:7000'] }, { nowMs }),
    { instanceOf: HearthError },
  )
  t.is(error?.code, 'invalid-input')
})

test('keys outlive a restart, are for their owner alone, and damage is told', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-mesh-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'peer.pem')
  const first = await openPeerIdentity(file)
  t.is((await openPeerIdentity(file)).peerId, first.peerId)
  t.is((await stat(file)).mode & 0o777, 0o600)
  const authority = await openMembershipAuthority({ folder })
  t.deepEqual((await openMembershipAuthority({ folder })).publicKey, authority.publicKey)
  const verifier = createMembershipVerifier({ publicKeys: [authority.publicKey] })
  t.is(verifier.verify(authority.issue(member), member.peerId).type, 'valid')
  await writeFile(file, (await readFile(file, 'utf8')).slice(0, 60))
  const error = await t.throwsAsync(openPeerIdentity(file), { instanceOf: HearthError })
  t.is(error?.code, 'corrupt')
})
