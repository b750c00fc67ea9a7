/** The records as they lie in the tables. Fields may be added, as optional ones; the rest needs a new version. */
import { z } from 'zod'

const timeMs = z.number().nonnegative()
export const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array)

export const projectRecord = z.object({
  name: z.string(),
  createdAtMs: timeMs,
  /** 0: the node's default. */
  bytesMax: z.number(),
  daysMax: z.number(),
})
export type ProjectRecord = z.infer<typeof projectRecord>

const tokenBase = {
  id: z.string(),
  /** sha256 of the secret: the secret itself is random enough to need no salt and no slow hash. */
  secretHash: bytes,
  description: z.string(),
  createdAtMs: timeMs,
}
export const tokenRecord = z.discriminatedUnion('type', [
  z.object({ ...tokenBase, type: z.literal('operator') }),
  z.object({ ...tokenBase, type: z.literal('project'), project: z.string(), line: z.string() }),
  z.object({
    ...tokenBase,
    type: z.literal('join'),
    expiresAtMs: timeMs,
    /** The node that used it. The same key may use it again: its first answer may have been lost. */
    usedBy: z.object({ nodeId: z.string(), publicKeyHash: z.string() }).optional(),
  }),
])
export type TokenRecord = z.infer<typeof tokenRecord>

export const nodeRecord = z.object({
  id: z.string(),
  name: z.string(),
  platform: z.string(),
  buildAddress: z.string(),
  controlAddress: z.string(),
  version: z.string(),
  /** sha256 of the DER SubjectPublicKeyInfo, as hex. */
  publicKeyHash: z.string(),
  joinedAtMs: timeMs,
  /** As of the last write; the directory of nodes knows better. */
  lastSeenAtMs: timeMs,
  /** The life that it was last heard of in; another one after each of its starts. */
  life: z.string().optional(),
  /** libp2p peer id; absent for a node that is not in the mesh. */
  peerId: z.string().optional(),
  /** The last one that was signed for it. */
  membership: bytes.optional(),
})
export type NodeRecord = z.infer<typeof nodeRecord>

/** A peer whose membership was taken back. */
export const expelledRecord = z.object({
  /** Empty for a node that had no peer. */
  peerId: z.string(),
  nodeId: z.string(),
  /** The node itself is not let in any more; else it goes on with another peer. */
  isNodeRemoved: z.boolean(),
  expelledAtMs: timeMs,
})
export type ExpelledRecord = z.infer<typeof expelledRecord>

export const buildRecord = z.object({
  id: z.string(),
  project: z.string(),
  line: z.string(),
  command: z.string(),
  /** As asked for; empty: the nodes' own. */
  platforms: z.array(z.string()),
  openedAtMs: timeMs,
  /** DER SubjectPublicKeyInfo; empty for a build that the coordinator only heard of by a report. */
  clientPublicKey: bytes,
  /** When the last certificate that the build got expires: nobody can go on with it after that. */
  certificateUntilMs: timeMs,
  nodeIds: z.array(z.string()),
  finishedAtMs: timeMs.optional(),
  /** False or absent: unfinished, or ended without the client's word, which may still come. */
  finishedByClient: z.boolean().optional(),
  /** BuildOutcome of the contract; 0 while unfinished. */
  outcome: z.int(),
  /** What the coordinator itself knows of why the build came to no good end: an encoded Failure. */
  failure: bytes.optional(),
  /** Why it went where it went: encoded PlacementDecisions, one for each placement. */
  decisions: z.array(bytes).optional(),
  durationMs: z.number(),
  stepsReused: z.int(),
  stepsTotal: z.int(),
  savedMs: z.number(),
})
export type BuildRecord = z.infer<typeof buildRecord>
