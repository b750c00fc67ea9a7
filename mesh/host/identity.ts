/** Who this peer is in the mesh: an Ed25519 key of its own that outlives restarts, and the peer id made of it. */
import type { KeyObject } from 'node:crypto'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { z } from 'zod'
import { openKeyFile } from '../key-file.ts'

export interface PeerIdentity {
  /** As text: `12D3KooW…`. */
  readonly peerId: string
  /** The same key twice: for signatures of our own, and as libp2p takes it. */
  readonly signingKey: KeyObject
  readonly privateKey: PrivateKey
}

/** RFC 8037: both halves of an Ed25519 key as base64url. */
const jwkShape = z.object({ d: z.base64url(), x: z.base64url() })

/** @throws HearthError `corrupt` when the file holds something else. */
export async function openPeerIdentity(file: string): Promise<PeerIdentity> {
  return identityOfKey(
    await openKeyFile(file, 'delete it; the peer then joins the mesh as a new one'),
  )
}

/** @param signingKey private, Ed25519. */
export function identityOfKey(signingKey: KeyObject): PeerIdentity {
  const jwk = jwkShape.parse(signingKey.export({ format: 'jwk' }))
  const privateKey = privateKeyFromRaw(
    Buffer.concat([Buffer.from(jwk.d, 'base64url'), Buffer.from(jwk.x, 'base64url')]),
  )
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), signingKey, privateKey }
}
