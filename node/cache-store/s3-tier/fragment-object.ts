/**
 * A fragment as it lies in the object store: one line of JSON, a line feed, then the fragment's bytes as they are.
 *
 *     {"version":1,"statement":"<base64>","bytes":12345,"blobs":[["sha256:…",678], …]}\n…
 *
 * The version is looked at before anything else. What is too long, too short, or hashes to another name is damaged.
 */
import { z } from 'zod'
import { type Digest, digestOf, isDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { refuseNewer } from '../../../core/format-version.ts'
import { mib } from '../../../core/limits.ts'
import type { StoredFragment } from './index.ts'

export const fragmentObjectVersion = 1

/** A record of 1 MiB may be made of some larger fragments, but hardly of one that is larger than this. */
export const fragmentObjectBytesMax = 16 * mib

const lineFeed = 0x0a
const versionShape = z.looseObject({ version: z.int().min(1) })
const digestShape = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value))
const headShape = z.looseObject({
  statement: z.base64().min(1).max(8192),
  bytes: z.int().min(0),
  blobs: z.array(z.tuple([digestShape, z.int().min(0)])).max(100_000),
})

/** @throws HearthError `invalid-input` when it is larger than an object may be. */
export function writeFragmentObject({ statement, bytes, blobs }: StoredFragment): Buffer {
  const head = {
    version: fragmentObjectVersion,
    statement: Buffer.from(statement).toString('base64'),
    bytes: bytes.length,
    blobs: blobs.map(({ digest, size }) => [digest, size]),
  }
  const object = Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), bytes])
  if (object.length <= fragmentObjectBytesMax) return object
  throw new HearthError(
    'invalid-input',
    `a cache fragment of ${object.length} bytes is too large for the object store`,
  )
}

/** @throws HearthError `version` when a newer Hearth wrote it, `corrupt` when it is damaged. */
export function readFragmentObject(object: Buffer, digest: Digest): StoredFragment {
  const end = object.indexOf(lineFeed)
  const head = parseHead(object.subarray(0, Math.max(0, end)))
  const bytes = object.subarray(end + 1)
  if (bytes.length !== head.bytes || digestOf(bytes) !== digest) {
    throw damaged('its bytes are not those of its name')
  }
  const blobs = head.blobs.map(([blob, size]) => ({ digest: blob, size }))
  return { statement: Buffer.from(head.statement, 'base64'), bytes, blobs }
}

function parseHead(line: Buffer): z.infer<typeof headShape> {
  let value: unknown
  try {
    value = JSON.parse(line.toString())
  } catch {
    throw damaged('it does not begin with a line of JSON')
  }
  const stamp = versionShape.safeParse(value)
  if (!stamp.success) throw damaged('it names no version')
  refuseNewer('a cache fragment in the object store', stamp.data.version, fragmentObjectVersion)
  const head = headShape.safeParse(value)
  if (!head.success) throw damaged('its head is incomplete')
  return head.data
}

function damaged(how: string): HearthError {
  return new HearthError('corrupt', `a cache fragment in the object store is damaged: ${how}`)
}
