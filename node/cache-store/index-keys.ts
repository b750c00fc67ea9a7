/**
 * How the rows of the index are written: fixed widths, big-endian, so that byte order is the order in which
 * they are walked.
 *
 *   blobs   digest(32)                                    -> size(6)
 *   owners  digest(32) scope                              -> last use in ms(6)
 *   uses    project 0x00 last use in ms(6) digest(32) line -> nothing
 */
import { type Digest, digestHex } from '../../core/digest.ts'
import type { ScopeId } from '../../core/scope.ts'

const digestBytes = 32
const numberBytes = 6

/** One scope's hold on one blob. */
export interface Holding {
  readonly scope: ScopeId
  readonly digest: Digest
}

/** A holding with the time it was last read, pinned or written, in ms since 1970. */
export interface Use extends Holding {
  readonly lastUsedAtMs: number
}

/** Unsigned, below 2^48: 256 TiB, or the year 10889. */
export function encodeNumber(value: number): Buffer {
  const bytes = Buffer.alloc(numberBytes)
  bytes.writeUIntBE(value, 0, numberBytes)
  return bytes
}

export function decodeNumber(bytes: Buffer): number {
  return bytes.readUIntBE(0, numberBytes)
}

export function digestKey(digest: Digest): Buffer {
  return Buffer.from(digestHex(digest), 'hex')
}

export function decodeDigest(key: Buffer): Digest {
  return `sha256:${key.toString('hex', 0, digestBytes)}`
}

export function ownerKey({ scope, digest }: Holding): Buffer {
  return Buffer.concat([digestKey(digest), Buffer.from(scope, 'latin1')])
}

export function decodeOwnerKey(key: Buffer): Holding {
  return {
    digest: decodeDigest(key),
    scope: key.toString('latin1', digestBytes) as ScopeId,
  }
}

export function useKey({ scope, digest, lastUsedAtMs }: Use): Buffer {
  const slash = scope.indexOf('/')
  return Buffer.concat([
    Buffer.from(`${scope.slice(0, slash)}\0`, 'latin1'),
    encodeNumber(lastUsedAtMs),
    digestKey(digest),
    Buffer.from(scope.slice(slash + 1), 'latin1'),
  ])
}

export function decodeUseKey(key: Buffer): Use {
  const projectEnd = key.indexOf(0)
  const digestStart = projectEnd + 1 + numberBytes
  const lineStart = digestStart + digestBytes
  const project = key.toString('latin1', 0, projectEnd)
  return {
    scope: `${project}/${key.toString('latin1', lineStart)}`,
    digest: `sha256:${key.toString('hex', digestStart, lineStart)}`,
    lastUsedAtMs: key.readUIntBE(projectEnd + 1, numberBytes),
  }
}

/** Everything a project used; names have no byte below 0x2d, so no other project's keys lie between. */
export function useRange(project: string): { start: Buffer; end: Buffer } {
  return {
    start: Buffer.from(`${project}\0`, 'latin1'),
    end: Buffer.from(`${project}\x01`, 'latin1'),
  }
}

/** The smallest key above this one. */
export function keyAfter(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.from([0])])
}

/** The project part of a scope's id. */
export function projectOf(scope: ScopeId): string {
  return scope.slice(0, scope.indexOf('/'))
}
