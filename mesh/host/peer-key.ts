/** The public key inside a peer id, to verify what a peer has signed without asking anybody. */
import { createPublicKey, type KeyObject } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'

/** Fixed head of a DER SubjectPublicKeyInfo for Ed25519 (RFC 8410, section 4); 32 bytes of key follow. */
const ed25519Head = Buffer.from('302a300506032b6570032100', 'hex')

/** Reading one costs as much as a verification, and members say many things. */
const known = new Map<string, KeyObject>()
const knownMax = 4_096

/** @returns undefined when the text is no peer id of an Ed25519 key. */
export function publicKeyOfPeer(peerId: string): KeyObject | undefined {
  const before = known.get(peerId)
  if (before !== undefined) return before
  const key = readKey(peerId)
  if (key === undefined) return undefined
  if (known.size >= knownMax) known.clear()
  known.set(peerId, key)
  return key
}

function readKey(peerId: string): KeyObject | undefined {
  try {
    const parsed = peerIdFromString(peerId)
    if (parsed.type !== 'Ed25519') return undefined
    const key = Buffer.concat([ed25519Head, parsed.publicKey.raw])
    return createPublicKey({ key, type: 'spki', format: 'der' })
  } catch {
    return undefined
  }
}
