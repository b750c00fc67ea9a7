/** The coordinator's membership key, in a file of its own beside the certificate authority's. */
import { createPublicKey } from 'node:crypto'
import path from 'node:path'
import { openKeyFile } from '../key-file.ts'
import type { MembershipAuthority } from './index.ts'
import { issueMembership } from './issue.ts'

export interface MembershipAuthorityOptions {
  /** The coordinator's data folder. */
  folder: string
  /** Default: the clock. */
  now?: () => number
}

/** @throws HearthError `corrupt` when the key's file holds something else. */
export async function openMembershipAuthority(
  options: MembershipAuthorityOptions,
): Promise<MembershipAuthority> {
  const now = options.now ?? Date.now
  const privateKey = await openKeyFile(
    path.join(options.folder, 'authority', 'membership.pem'),
    'restore it from a copy; without it every node needs a new membership',
  )
  return {
    publicKey: createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
    issue: (member) => issueMembership(privateKey, member, { nowMs: now() }),
  }
}
