/** The form of a kept standby. Apart, because zod is loaded only when the coordinator is away. */
import { z } from 'zod'
import { formatVersions } from '../../core/format-version.ts'

export const standbySchema = z.object({
  version: z.literal(formatVersions.protocol),
  privateKeyPem: z.string(),
  endpoints: z.array(
    z.object({
      nodeId: z.string(),
      address: z.string(),
      serverName: z.string(),
      caPem: z.string(),
      certificatePem: z.string(),
      expiresAtMs: z.number(),
    }),
  ),
})
