/**
 * The other road: ranges of blobs over libp2p streams between members, a fifth as fast as the direct one, and open
 * wherever the mesh is. One request at a time on a stream; what follows an answer is as many bytes as were asked for.
 *
 *   asker   {"project", "line", "digest", "start", "end"}                      JSON; `end` exclusive
 *   giver   {"type": "bytes", "size"}, then the bytes in frames of up to 256 KiB
 *        or {"type": "absent"} | {"type": "refused", "message"}
 */
import { z } from 'zod'
import { type Digest, isDigest } from '../../core/digest.ts'
import { kib } from '../../core/limits.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import type { NamedBlob } from './bulk-paths.ts'

export const blobProtocol = '/hearth/blobs/1'

/** Below what a framed stream takes as one message. */
export const streamFrameBytes = 256 * kib

export interface RangeRequest extends NamedBlob {
  readonly start: number
  /** Exclusive, above `start`. */
  readonly end: number
}

export type RangeAnswer =
  /** In bytes, of the whole blob. */
  | { readonly type: 'bytes'; readonly size: number }
  | { readonly type: 'absent' }
  | { readonly type: 'refused'; readonly message: string }

const requestShape = z.object({
  project: z.string(),
  line: z.string(),
  digest: z.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
  start: z.int().nonnegative(),
  end: z.int().positive(),
})

const answerShape = z.discriminatedUnion('type', [
  z.object({ type: z.literal('bytes'), size: z.int().nonnegative() }),
  z.object({ type: z.literal('absent') }),
  z.object({ type: z.literal('refused'), message: z.string().max(200) }),
])

export function writeRequest({ scope, digest, start, end }: RangeRequest): Uint8Array {
  const { project, line } = scope
  return Buffer.from(JSON.stringify({ project, line, digest, start, end }))
}

/** Undefined when it is none. */
export function parseRequest(frame: Uint8Array): RangeRequest | undefined {
  const parsed = requestShape.safeParse(fromJson(frame))
  if (!parsed.success || parsed.data.start >= parsed.data.end) return undefined
  const { project, line, digest, start, end } = parsed.data
  const scope = toScope(project, line)
  return scope === undefined ? undefined : { scope, digest, start, end }
}

export function writeAnswer(answer: RangeAnswer): Uint8Array {
  return Buffer.from(JSON.stringify(answer))
}

/** Undefined when it is none. */
export function parseAnswer(frame: Uint8Array): RangeAnswer | undefined {
  return answerShape.safeParse(fromJson(frame)).data
}

function fromJson(frame: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).toString())
  } catch {
    return undefined
  }
}

function toScope(project: string, line: string): Scope | undefined {
  try {
    return makeScope(project, line)
  } catch {
    return undefined
  }
}
