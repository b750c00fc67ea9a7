/**
 * What is believed to be in the object store, on this node's disk: which fragments were seen there, what they name,
 * and what was uploaded. Listings and answers correct it; nothing that matters rests on it alone.
 */
import { createHash } from 'node:crypto'
import { type Digest, digestHex, digestOf } from '../../../core/digest.ts'
import { type ErrorCode, HearthError } from '../../../core/errors.ts'
import { readFragmentObject } from './fragment-object.ts'
import type { StoredFragment } from './index.ts'
import type { FragmentName } from './location.ts'
import type { FragmentRow, Tables } from './tables.ts'

export interface Presence {
  /** A fragment names it, or it was uploaded; and nobody has failed to read it since. Microseconds. */
  has(digest: Digest): boolean
  /** Whether a fragment that was seen names it. */
  isNamed(digest: Digest): boolean
  doubtOf(digest: Digest): Doubt | undefined
  fragment(key: string): FragmentRow | undefined
  /** Whether all is known that an object says, by what a listing tells of it. */
  isLearnt(object: { key: string; etag: string; modifiedMs: number }): boolean
  /**
   * What an object says. One that is damaged names nothing.
   * @returns the fragment, or why it is none.
   */
  learn(
    name: FragmentName & { key: string },
    object: { bytes: Buffer; etag: string; modifiedMs: number },
  ): Promise<Learned>
  /** `learn`, for a fragment that this node has just seen there with all its blobs. */
  learnWhole(
    name: FragmentName & { key: string },
    object: { bytes: Buffer; etag: string; modifiedMs: number },
  ): Promise<void>
  /** Whether all that this object names is there, as long as it is there itself. */
  isWhole(object: { key: string; etag: string; modifiedMs: number }): boolean
  /** Of a fragment that was learnt. */
  blobsOf(key: string): Digest[]
  /** It is there, whole. */
  seen(digest: Digest): Promise<void>
  doubt(digest: Digest, doubt: Doubt): Promise<void>
  /** It was removed, and no fragment names it. */
  removed(digest: Digest): Promise<void>
  forgetFragments(keys: readonly string[]): Promise<void>
  /** Keys of fragments that were known before `since` and are above `after` and, if given, not above `upTo`. */
  knownBetween(after: string, upTo: string | undefined, folder: string, since: number): string[]
  /** For `knownBetween`: what is learnt from now on is younger. */
  now(): number
}

export type Learned =
  | { readonly type: 'fragment'; readonly fragment: StoredFragment }
  | { readonly type: 'newer' | 'damaged'; readonly problem: HearthError }

/** `absent`: it should have been there. `wrong bytes`: what is there does not hash to the digest. */
export type Doubt = 'absent' | 'wrong bytes'

const nothing = Buffer.from([1])
const doubtBytes = { absent: Buffer.from([1]), 'wrong bytes': Buffer.from([2]) }
const problems = new Map<ErrorCode, 'newer' | 'damaged'>([
  ['version', 'newer'],
  ['corrupt', 'damaged'],
])
/** After so long it is read once more. */
const problemMs = 10 * 60_000
const digestBytes = 32
const nameBytes = 16

export function createPresence(tables: Tables): Presence {
  const { fragments, names, uploads, doubts } = tables
  let tick = 0
  /** Those learnt in this life: a listing that began before may lack them. */
  const learntAt = new Map<string, { tick: number; atMs: number }>()

  const isNamed = (digest: Digest) => {
    const start = rowKey(digest)
    const end = Buffer.concat([start, Buffer.alloc(nameBytes + 1, 0xff)])
    for (const _ of names.getKeys({ start, end, limit: 1 })) return true
    return false
  }

  function dropNames(key: string): void {
    const before = fragments.get(key)
    if (before === undefined) return
    for (const blob of digestsOf(before)) names.removeSync(nameKey(blob, key))
  }

  async function put(key: string, row: FragmentRow): Promise<void> {
    tick += 1
    learntAt.set(key, { tick, atMs: performance.now() })
    await tables.write(() => {
      const before = fragments.get(key)
      const isSame = before?.etag === row.etag && before.modifiedMs === row.modifiedMs
      dropNames(key)
      // Read once more, it says nothing new of its blobs.
      fragments.putSync(key, isSame && before.isWhole === true ? { ...row, isWhole: true } : row)
      for (const blob of digestsOf(row)) {
        names.putSync(nameKey(blob, key), nothing)
        uploads.removeSync(blob)
        if (!isSame) doubts.removeSync(blob)
      }
    })
  }

  async function learn(
    { key, digest }: FragmentName & { key: string },
    { bytes, etag, modifiedMs }: { bytes: Buffer; etag: string; modifiedMs: number },
    more: { isWhole?: true },
  ): Promise<Learned> {
    const seen = { etag, modifiedMs, content: digestOf(bytes) }
    try {
      const fragment = readFragmentObject(bytes, digest)
      const blobs = Buffer.concat(fragment.blobs.map((blob) => rowKey(blob.digest)))
      await put(key, { ...seen, ...more, blobs })
      return { type: 'fragment', fragment }
    } catch (error) {
      if (!(error instanceof HearthError)) throw error
      const problem = problems.get(error.code)
      if (problem === undefined) throw error
      await put(key, { ...seen, problem, blobs: Buffer.alloc(0) })
      return { type: problem, problem: error }
    }
  }

  return {
    has(digest) {
      if (doubts.get(rowKey(digest)) !== undefined) return false
      return uploads.get(rowKey(digest)) !== undefined || isNamed(digest)
    },
    isNamed,
    doubtOf(digest) {
      const value = doubts.get(rowKey(digest))
      if (value === undefined) return undefined
      return value.equals(doubtBytes.absent) ? 'absent' : 'wrong bytes'
    },
    fragment: (key) => fragments.get(key),
    isLearnt({ key, etag, modifiedMs }) {
      const row = fragments.get(key)
      if (row?.etag !== etag || row.modifiedMs !== modifiedMs) return false
      if (row.problem === undefined) return true
      // It may have been damaged on its way alone, and Hearth may have been replaced by a newer one.
      const { atMs = Number.NEGATIVE_INFINITY } = learntAt.get(key) ?? {}
      return performance.now() - atMs < problemMs
    },
    learn: (name, object) => learn(name, object, {}),
    async learnWhole(name, object) {
      await learn(name, object, { isWhole: true })
    },
    isWhole({ key, etag, modifiedMs }) {
      const row = fragments.get(key)
      return row?.isWhole === true && row.etag === etag && row.modifiedMs === modifiedMs
    },
    blobsOf(key) {
      const row = fragments.get(key)
      return row === undefined
        ? []
        : digestsOf(row).map((bytes): Digest => `sha256:${bytes.toString('hex')}`)
    },
    seen: (digest) =>
      tables.write(() => {
        if (!isNamed(digest)) uploads.putSync(rowKey(digest), nothing)
        doubts.removeSync(rowKey(digest))
      }),
    doubt: (digest, doubt) =>
      tables.write(() => {
        uploads.removeSync(rowKey(digest))
        doubts.putSync(rowKey(digest), doubtBytes[doubt])
      }),
    removed: (digest) =>
      tables.write(() => {
        uploads.removeSync(rowKey(digest))
        doubts.removeSync(rowKey(digest))
      }),
    async forgetFragments(keys) {
      if (keys.length === 0) return
      for (const key of keys) learntAt.delete(key)
      await tables.write(() => {
        for (const key of keys) {
          dropNames(key)
          fragments.removeSync(key)
        }
      })
    },
    knownBetween(after, upTo, folder, since) {
      const found: string[] = []
      for (const key of fragments.getKeys({ start: after === '' ? folder : after })) {
        if (key === after) continue
        if (!key.startsWith(folder) || (upTo !== undefined && key > upTo)) break
        if ((learntAt.get(key)?.tick ?? 0) <= since) found.push(key)
      }
      return found
    },
    now: () => tick,
  }
}

function rowKey(digest: Digest): Buffer {
  return Buffer.from(digestHex(digest), 'hex')
}

function nameKey(blob: Buffer, fragment: string): Buffer {
  const name = createHash('sha256').update(fragment).digest().subarray(0, nameBytes)
  return Buffer.concat([blob, name])
}

function digestsOf({ blobs }: FragmentRow): Buffer[] {
  const digests: Buffer[] = []
  for (let at = 0; at < blobs.length; at += digestBytes) {
    digests.push(Buffer.from(blobs.subarray(at, at + digestBytes)))
  }
  return digests
}
