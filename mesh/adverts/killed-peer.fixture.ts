/**
 * A peer in a process of its own, to be killed. Arguments: folder, PKCS8 PEM of the realm's key, membership of
 * the peer that it shall meet (base64), first and number of the keys that it publishes. Prints its membership
 * (base64), then "said" when its adverts are in its log, and lives until it is killed.
 */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import path from 'node:path'
import { silentLogger } from '../../core/log.ts'
import { testKey } from '../digest-index/temporary-index.fixture.ts'
import { createMembershipVerifier, issueMembership, openMesh, openPeerIdentity } from '../index.ts'

const [folder = '', keyPem = '', other = '', first = '0', count = '0'] = process.argv.slice(2)
const privateKey = createPrivateKey(keyPem)
const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
const identity = await openPeerIdentity(path.join(folder, 'peer.pem'))
const membership = issueMembership(
  privateKey,
  { peerId: identity.peerId, nodeId: 'killed', roles: ['node'], addresses: [], bulkAddress: '' },
  { nowMs: Date.now() },
)
const mesh = await openMesh(
  {
    identity,
    verifier: createMembershipVerifier({ publicKeys: [publicKey] }),
    log: silentLogger,
  },
  {
    folder,
    advertises: true,
    listen: [],
    membership,
    limits: { courtesyMs: 100, redialMsMax: 500 },
  },
)
process.stdout.write(`${Buffer.from(membership).toString('base64')}\n`)
mesh.host.learn([Buffer.from(other, 'base64')])
await mesh.adverts?.publish(
  Array.from({ length: Number(count) }, (_, index) => ({
    key: testKey(Number(first) + index),
    size: 1,
    heat: 'held' as const,
  })),
)
process.stdout.write('said\n')
setInterval(() => {}, 1_000_000)
