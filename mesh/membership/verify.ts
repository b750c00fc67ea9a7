/** Verifies memberships with the coordinator's public key. Synchronous: 0.1 ms, and gates must not wait. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import { clockSlackMs, membershipBytesMax, membershipRenewalPart } from '../limits.ts'
import type { Membership, MembershipVerdict, MembershipVerifier } from './index.ts'
import { membershipShape, membershipVersion, signatureBytes, signedBytes } from './statement.ts'

export interface VerifierOptions {
  /** DER SubjectPublicKeyInfo of the coordinator's membership key; several while it is being replaced. */
  publicKeys: readonly Uint8Array[]
  /** Default: the clock. */
  now?: () => number
  /** Default: limits.ts. */
  clockSlackMs?: number
}

/** @throws HearthError `invalid-input` when a key is no Ed25519 key. */
export function createMembershipVerifier(options: VerifierOptions): MembershipVerifier {
  const now = options.now ?? Date.now
  const slackMs = options.clockSlackMs ?? clockSlackMs
  const keys = options.publicKeys.map(readPublicKey)

  return {
    endsAtMs: ({ expiresAtMs }) => expiresAtMs + slackMs,
    verify(signed, peerId) {
      if (signed.length <= signatureBytes || signed.length > membershipBytesMax) {
        return refused('malformed')
      }
      const signature = signed.subarray(0, signatureBytes)
      const body = signed.subarray(signatureBytes)
      const statement = signedBytes(body)
      if (!keys.some((key) => verify(null, statement, key, signature))) {
        return refused('not signed by the coordinator')
      }
      const parsed = parse(body)
      if (parsed.type === 'refused') return parsed
      const { membership } = parsed
      if (peerId !== undefined && membership.peerId !== peerId) {
        return refused('issued to another peer')
      }
      if (now() < membership.issuedAtMs - slackMs) return refused('not valid yet')
      if (now() >= membership.expiresAtMs + slackMs) return refused('expired')
      return parsed
    },
  }
}

/**
 * How long after it was received a membership is to be renewed. Counted from then and not from when it was
 * issued, so that the clocks of coordinator and node need not agree.
 */
export function renewAfterMs(membership: Membership): number {
  return (membership.expiresAtMs - membership.issuedAtMs) * membershipRenewalPart
}

function parse(body: Uint8Array): MembershipVerdict {
  let content: unknown
  try {
    content = JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    return refused('malformed')
  }
  const parsed = membershipShape.safeParse(content)
  if (!parsed.success) return refused('malformed')
  const { version, ...membership } = parsed.data
  return version > membershipVersion
    ? refused('made by a newer Hearth')
    : { type: 'valid', membership }
}

function refused(
  reason: Extract<MembershipVerdict, { type: 'refused' }>['reason'],
): MembershipVerdict {
  return { type: 'refused', reason }
}

function readPublicKey(der: Uint8Array): KeyObject {
  try {
    const key = createPublicKey({ key: Buffer.from(der), type: 'spki', format: 'der' })
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch (cause) {
    throw new HearthError('invalid-input', 'the membership key is no public key', { cause })
  }
  throw new HearthError('invalid-input', 'the membership key is no Ed25519 key')
}
