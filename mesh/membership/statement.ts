/** How a membership is written: what is signed, and the shape of what was. */
import { z } from 'zod'

/** Raised by a change that an older Hearth would misread. */
export const membershipVersion = 1
export const signatureBytes = 64

/** Keeps a signature over a membership from counting as one over anything else. */
const domain = Buffer.from('hearth membership\0')

export function signedBytes(body: Uint8Array): Buffer {
  return Buffer.concat([domain, body])
}

export const membershipShape = z.object({
  version: z.int().min(1),
  peerId: z.string().regex(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/),
  nodeId: z.string().min(1).max(100),
  roles: z.array(z.string().min(1).max(50)).max(10),
  addresses: z
    .array(z.string().regex(/^\/(ip4|ip6|dns|dns4|dns6)\/[^/\s]{1,255}\/tcp\/\d{1,5}$/))
    .max(16),
  bulkAddress: z.string().max(300).default(''),
  otherAddresses: z.array(z.string().max(300)).max(8).default([]),
  issuedAtMs: z.int().min(0),
  expiresAtMs: z.int().min(0),
})
