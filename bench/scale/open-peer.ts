/** One peer of a fleet: over libp2p as a node opens it, or over the network in memory. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { silentLogger } from '../../core/log.ts'
import {
  hubRole,
  identityOfKey,
  issueMembership,
  type MembershipVerifier,
  openMesh,
  type SignedMembership,
} from '../../mesh/index.ts'
import type { RelayOptions } from '../../mesh/relay/index.ts'
import { openMemoryMesh, type ScaledMesh } from './memory-mesh.ts'
import type { MemoryNetwork } from './memory-network.ts'

export interface OpenPeerOptions {
  /** Undefined: over libp2p, on loopback. */
  network: MemoryNetwork | undefined
  verifier: MembershipVerifier
  /** Signs memberships. */
  key: KeyObject
  folder: string
  isHub: boolean
  advertises: boolean
  relay?: RelayOptions
}

/** @returns with the membership that others are to be told. */
export async function openPeer(
  options: OpenPeerOptions,
): Promise<{ mesh: ScaledMesh; signed: SignedMembership }> {
  const { network, verifier, key, folder, isHub, advertises } = options
  await mkdir(folder, { recursive: true })
  const identity = identityOfKey(generateKeyPairSync('ed25519').privateKey)
  const { peerId, signingKey } = identity
  const roles = isHub ? ['node', hubRole] : ['node']
  const issue = (addresses: string[], issuedAtMs: number) =>
    issueMembership(
      key,
      { ...{ peerId, nodeId: peerId, roles, addresses }, bulkAddress: '' },
      { nowMs: issuedAtMs },
    )
  const relay = options.relay === undefined ? {} : { relay: options.relay }
  const first = issue([], Date.now() - 1)
  if (network !== undefined) {
    const membership = { peerId, roles }
    const how = { folder, signed: first, membership, signingKey, advertises, ...relay }
    return { mesh: await openMemoryMesh(network, how), signed: first }
  }
  const mesh = await openMesh(
    { identity, verifier, log: silentLogger },
    { folder, advertises, listen: ['/ip4/127.0.0.1/tcp/0'], membership: first, ...relay },
  )
  const signed = issue(mesh.host.addresses(), Date.now())
  mesh.host.renew(signed)
  return { mesh, signed }
}
