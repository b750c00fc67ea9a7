/**
 * A fragment as it lies in the object store: two lines of JSON, then the fragment's bytes as they are.
 *
 *     {"version":1,"sha256":"<hex of all that follows this line>"}
 *     {"statement":"<base64>","blobs":[["sha256:…",678], …]}
 *
 * The version is looked at before anything else, then the sum, so that what was cut or changed on its way is never
 * taken for what a node has written.
 */
import { z } from 'zod'
import { type Digest, digestHex, digestOf, isDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { refuseNewer } from '../../../core/format-version.ts'
import { mib } from '../../../core/limits.ts'
import type { StoredFragment } from './index.ts'

export const fragmentObjectVersion = 1

/** A record of 1 MiB may be made of some larger fragments, but hardly of one that is larger than this. */
export const fragmentObjectBytesMax = 16 * mib

/** With the membership of its maker, a statement takes some kilobytes. */
const statementCharactersMax = 65_536

const lineFeed = Buffer.from('\n')
const stampShape = z.looseObject({ version: z.int().min(1) })
const sumShape = z.looseObject({ sha256: z.string() })
const digestShape = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value))
const headShape = z.looseObject({
  statement: z.base64().min(1).max(statementCharactersMax),
  blobs: z.array(z.tuple([digestShape, z.int().min(0)])).max(100_000),
})

/** @throws HearthError `invalid-input` when it is larger than an object may be. */
export function writeFragmentObject({ statement, bytes, blobs }: StoredFragment): Buffer {
  const head = {
    statement: Buffer.from(statement).toString('base64'),
    blobs: blobs.map(({ digest, size }) => [digest, size]),
  }
  const content = Buffer.concat([Buffer.from(JSON.stringify(head)), lineFeed, bytes])
  const stamp = { version: fragmentObjectVersion, sha256: digestHex(digestOf(content)) }
  const object = Buffer.concat([Buffer.from(JSON.stringify(stamp)), lineFeed, content])
  if (object.length <= fragmentObjectBytesMax) return object
  throw new HearthError(
    'invalid-input',
    `a cache fragment of ${object.length} bytes is too large for the object store`,
  )
}

/**
 * @param digest of the fragment's bytes, as the object's name says it.
 * @throws HearthError `version` when a newer Hearth wrote it, `corrupt` when it is damaged.
 */
export function readFragmentObject(object: Buffer, digest: Digest): StoredFragment {
  const [line, content] = splitLine(object)
  const stamp = parseLine(line, stampShape)
  refuseNewer('a cache fragment in the object store', stamp.version, fragmentObjectVersion)
  if (parseLine(line, sumShape).sha256 !== digestHex(digestOf(content))) {
    throw damaged('its bytes are not those that were written')
  }
  const [secondLine, bytes] = splitLine(content)
  const { statement, blobs } = parseLine(secondLine, headShape)
  if (digestOf(bytes) !== digest) throw damaged('it is another one than its name says')
  return {
    statement: Buffer.from(statement, 'base64'),
    bytes,
    blobs: blobs.map(([blob, size]) => ({ digest: blob, size })),
  }
}

function splitLine(bytes: Buffer): [line: Buffer, rest: Buffer] {
  const end = bytes.indexOf(lineFeed)
  if (end === -1) throw damaged('it ends too early')
  return [bytes.subarray(0, end), bytes.subarray(end + 1)]
}

function parseLine<T>(line: Buffer, shape: z.ZodType<T>): T {
  try {
    return shape.parse(JSON.parse(line.toString()))
  } catch (error) {
    throw damaged('its head cannot be read', error)
  }
}

function damaged(how: string, cause?: unknown): HearthError {
  return new HearthError('corrupt', `a cache fragment in the object store is damaged: ${how}`, {
    cause,
  })
}
