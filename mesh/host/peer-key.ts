/** The public key inside a peer id, to verify what a peer has signed without asking anybody. */
import { createPublicKey, type KeyObject } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'

/** Fixed head of a DER SubjectPublicKeyInfo for Ed25519 (RFC 8410, section 4); 32 bytes of key follow. */
const ed25519Head = Buffer.from('302a300506032b6570032100', 'hex')

/** @returns undefined when the text is no peer id of an Ed25519 key. */
export function publicKeyOfPeer(peerId: string): KeyObject | undefined {
  try {
    const parsed = peerIdFromString(peerId)
    if (parsed.type !== 'Ed25519') return undefined
    const key = Buffer.concat([ed25519Head, parsed.publicKey.raw])
    return createPublicKey({ key, type: 'spki', format: 'der' })
  } catch {
    return undefined
  }
}
