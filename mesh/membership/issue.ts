/** Signs memberships. Only the coordinator has the key. */
import { type KeyObject, sign } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import { membershipBytesMax, membershipMs } from '../limits.ts'
import type { MemberFacts, SignedMembership } from './index.ts'
import { membershipShape, membershipVersion, signatureBytes, signedBytes } from './statement.ts'

/**
 * @param privateKey Ed25519.
 * @param options.lifetimeMs default 24 hours.
 * @throws HearthError `invalid-input` when the member's facts cannot be a membership.
 */
export function issueMembership(
  privateKey: KeyObject,
  member: MemberFacts,
  options: { nowMs: number; lifetimeMs?: number },
): SignedMembership {
  const issuedAtMs = Math.floor(options.nowMs)
  const parsed = membershipShape.safeParse({
    version: membershipVersion,
    ...member,
    issuedAtMs,
    expiresAtMs: issuedAtMs + (options.lifetimeMs ?? membershipMs),
  })
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new HearthError(
      'invalid-input',
      `the peer cannot be a member: ${issue?.path.join('.')}: ${issue?.message}`,
      { hint: 'addresses look like /ip4/192.0.2.7/tcp/7000' },
    )
  }
  const body = Buffer.from(JSON.stringify(parsed.data))
  if (body.length + signatureBytes > membershipBytesMax) {
    throw new HearthError('invalid-input', 'the peer has too many addresses or roles')
  }
  return Buffer.concat([sign(null, signedBytes(body), privateKey), body])
}
