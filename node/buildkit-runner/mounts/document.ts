/**
 * A snapshot as it is kept and told of: small, so that every node of the scope can have it and know what a mount
 * weighs before anything of it is brought.
 */
import { z } from 'zod'
import { type Digest, digestOf, isDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { formatVersions, refuseNewer } from '../../../core/format-version.ts'
import type { Blob, MountName } from './index.ts'

/** How long steps took that began with a mount empty, and with it filled, at best; in ms. */
export interface StepTimes {
  readonly coldMs?: number | undefined
  readonly warmMs?: number | undefined
}

export interface SnapshotDocument extends StepTimes {
  readonly mount: MountName
  readonly kind: 'newest' | 'union'
  /** Snapshots whose place it takes: those it was made from, and theirs, the latest first. */
  readonly replaces: readonly Digest[]
  /** In the order in which they are unpacked: no folder's pack comes before those of files. */
  readonly packs: readonly Pack[]
  readonly list: Blob
  /** Unpacked. */
  readonly bytes: number
  readonly files: number
}

export interface Pack extends Blob {
  /** All that it holds, unpacked, with what an archive adds. */
  readonly unpacked: number
  readonly holds: 'files' | 'folders'
}

export const documentBytesMax = 64 * 1024
export const packsMax = 64
export const replacesMax = 64

const digestShape = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value))
const blobShape = z.object({ digest: digestShape, size: z.int().min(0) })
const documentShape = z.looseObject({
  mount: z.object({
    id: z.string().max(4096),
    variant: z.string().max(256),
    platform: z.string().max(100),
  }),
  kind: z.enum(['newest', 'union']),
  replaces: z.array(digestShape).max(replacesMax),
  packs: z
    .array(blobShape.extend({ unpacked: z.int().min(0), holds: z.enum(['files', 'folders']) }))
    .max(packsMax),
  list: blobShape,
  bytes: z.int().min(0),
  files: z.int().min(0),
  coldMs: z.number().min(0).optional(),
  warmMs: z.number().min(0).optional(),
})
const versionShape = z.looseObject({ version: z.int().positive() })

export function writeDocument(document: SnapshotDocument): { digest: Digest; bytes: Buffer } {
  const bytes = Buffer.from(JSON.stringify({ version: formatVersions.mountSnapshot, ...document }))
  return { digest: digestOf(bytes), bytes }
}

/** @throws HearthError `version` when a newer Hearth wrote it, `corrupt` when it is none. */
export function readDocument(bytes: Uint8Array): SnapshotDocument {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString())
    refuseNewer('a mount snapshot', versionShape.parse(value).version, formatVersions.mountSnapshot)
    return documentShape.parse(value)
  } catch (cause) {
    if (cause instanceof HearthError) throw cause
    throw new HearthError('corrupt', 'a mount snapshot cannot be read', { cause })
  }
}

/** Everything that must be there for it to be used, itself left out. */
export function blobsOf({ packs, list }: SnapshotDocument): Blob[] {
  const all = [...packs, list].map(({ digest, size }) => ({ digest, size }))
  return [...new Map(all.map((blob) => [blob.digest, blob])).values()]
}

/** One text per mount of a scope. */
export function keyOfMount({ id, variant, platform }: MountName): string {
  return JSON.stringify([id, variant, platform])
}

/** What a filled mount saves a step; undefined when it was never seen both ways. */
export function savedMs({ coldMs, warmMs }: StepTimes): number | undefined {
  return coldMs === undefined || warmMs === undefined ? undefined : Math.max(0, coldMs - warmMs)
}
