/**
 * The cache store: blobs named by their digest, each owned by the scopes that have proved to hold its bytes.
 *
 * Promises:
 * - A blob is visible only when its bytes hashed to its digest and are on disk (fsync, then rename).
 * - A scope sees a blob only after that scope wrote, adopted or mounted it from a scope it may read.
 * - What is pinned is never evicted. Nothing torn is ever served: `open` reads a file that cannot change.
 * - Killed at any byte, the next start repairs itself.
 * - Who watches hears of what comes after its commit, and of what goes before its file is unlinked.
 *
 * Bytes are streamed, never held whole in memory.
 */
import type { Readable } from 'node:stream'
import type { Digest } from '../../core/digest.ts'
import type { Scope, ScopeId } from '../../core/scope.ts'

export interface CacheStore extends AsyncDisposable {
  /** Undefined is a miss: absent, or not this scope's. */
  stat(scope: Scope, digest: Digest): BlobInfo | undefined

  /**
   * Opens a blob, or undefined on a miss. A reader keeps its bytes even if the blob is evicted meanwhile.
   * @param options.start first byte, from 0; `end` last byte, inclusive. Both must lie inside the blob.
   */
  open(
    scope: Scope,
    digest: Digest,
    options: { start?: number; end?: number; signal: AbortSignal },
  ): Promise<Readable | undefined>

  /**
   * The file that holds a blob, which never changes and may vanish: for what is sent to another node of the
   * scope. Counts as a use.
   */
  fileOf(scope: Scope, digest: Digest): { file: string; size: number } | undefined

  /** Starts a blob of yet unknown length. Dispose without `commit` throws its bytes away. */
  createWriter(scope: Scope): Promise<BlobWriter>

  /**
   * Takes over a complete file by a hard link, after hashing it off the event loop. Never a copy: on
   * another file system the outcome says so and the caller sends the bytes through a writer instead.
   */
  adopt(
    scope: Scope,
    digest: Digest,
    file: string,
    options: { signal: AbortSignal },
  ): Promise<AdoptOutcome>

  /**
   * Where to put a file for `take`: on this store's file system, in use by nobody else. Who does not hand it over
   * removes it; what a killed process leaves there goes with the next start.
   */
  temporaryFile(): string

  /**
   * Publishes a file from `temporaryFile` whose bytes the caller has verified and synced; nothing is hashed
   * again. The file is used up, also when this throws.
   * @throws HearthError `corrupt` when it has another size; `exhausted` when the disk is full.
   */
  take(scope: Scope, blob: BlobInfo, file: string): Promise<void>

  /**
   * Makes a blob that is here, whosever it is, visible to a scope. The caller has proof that it is the
   * scope's: a fragment of the scope, signed by its maker, names it.
   */
  own(scope: Scope, digest: Digest): Promise<BlobInfo | undefined>

  /**
   * Makes a blob's file and another program's file of the same digest one file on disk, by a hard link to the
   * other, after hashing it off the event loop. Readers keep what they have open.
   * @returns bytes that are now on disk once instead of twice.
   */
  merge(file: OutsideFile, options: { signal: AbortSignal }): Promise<number>

  /** Which of these files are blobs here, and whether by the same file on disk. Absent: no such blob. */
  compare(files: readonly OutsideFile[]): Promise<ReadonlyMap<Digest, Resemblance>>

  /** Makes a blob of one scope visible in another; the caller has checked that `to` may read `from`. */
  share(from: Scope, to: Scope, digest: Digest): Promise<BlobInfo | undefined>

  /**
   * Pins those of the digests that this scope holds, in one step: none of `held` can vanish until disposal.
   * Pins live in memory and end with the process. Only damage found on disk (`verify`, `open`) breaks one.
   * @param options.isUse whether they count as used now. What is only on offer is not, or everything on
   *   offer would be as recent as what is read; once a day it is, so that it does not grow too old. Default true.
   */
  pin(scope: Scope, digests: Iterable<Digest>, options?: { isUse?: boolean }): Pin

  /** Forgets the scope's ownership and unlinks what nobody else owns or pins. */
  remove(scope: Scope, digest: Digest): Promise<void>

  /**
   * Removes everything of a scope; what builds have pinned stays with them until they end. Returns the sizes
   * of the blobs unlinked: one that was adopted frees the disk when its other name goes too.
   */
  reset(scope: Scope): Promise<{ bytesFreed: number }>

  /** In bytes, whosever the blob is; undefined when it is not here. Nobody outside a node may learn the answer. */
  size(digest: Digest): number | undefined

  /**
   * All blobs, whosever they are, in ascending order of digests. May be walked slowly: of what comes and goes
   * meanwhile, some is in it.
   */
  blobs(): Iterable<BlobInfo>

  /** From now on; `blobs` says what is there already. */
  watch(watcher: BlobWatcher): Disposable

  usage(): StoreUsage

  /** Applies the policies now (it also runs by itself after writes). Returns what went; eviction.ts has the order. */
  evict(): Promise<{ blobs: number; bytesFreed: number }>

  /**
   * Removes what was used longest ago, whichever project's it is, until blobs of so many bytes are unlinked or
   * nothing is left but what is pinned. For a disk that fills up.
   */
  evictOldest(bytes: number): Promise<{ blobs: number; bytesFreed: number }>

  /** Policies by project, from the coordinator; absent projects have the default. */
  setPolicies(policies: ReadonlyMap<string, EvictionPolicy>): void

  policyOf(project: string): EvictionPolicy

  /**
   * Bytes that a project's blobs may take at present, where its policy's bytes are shared with others: the
   * lower of the two holds. Not kept over a restart. Takes effect with the next eviction.
   */
  setRoom(project: string, bytesMax: number): void

  /** A project's blobs, each counted once however many of its lines own it. */
  projectBytes(project: string): number

  /** On disk now, files that other programs share included. */
  bytesOnDisk(options: { signal: AbortSignal }): Promise<number>

  /** Reads everything back; what does not hash to its digest is removed, pinned or not, and reported. */
  verify(options: { project?: string; signal: AbortSignal }): AsyncIterable<VerifyEvent>
}

/** Both are called in the order of the commits. */
export interface BlobWatcher {
  /** After the commit that made the blob visible. A further owner of it is no news. */
  onGained(blob: BlobInfo): void
  /**
   * When it is decided and nobody sees the blobs any more, before their files are unlinked, which waits for this,
   * but not for ever. One of them may be written again meanwhile: `onGained` follows.
   */
  beforeLost(digests: readonly Digest[]): Promise<void>
}

export interface BlobInfo {
  readonly digest: Digest
  readonly size: number
}

export interface BlobWriter extends AsyncDisposable {
  /** Bytes accepted so far. */
  readonly size: number
  /** Resolves when the bytes are handed to the file system: the caller's back-pressure. */
  write(bytes: Uint8Array): Promise<void>
  /**
   * Hashes, syncs and publishes. The blob is not evicted until the writer is disposed, so that whoever wrote it can
   * pin it before anything is evicted; what `adopt` takes over, until the next turn of the event loop.
   * @throws HearthError `corrupt` when the bytes do not hash to the digest; `exhausted` when the disk is full.
   */
  commit(digest: Digest): Promise<BlobInfo>
}

export type AdoptOutcome =
  | { type: 'adopted'; size: number }
  | { type: 'already held'; size: number }
  | { type: 'refused'; reason: AdoptRefusal }

/** `cannot be linked`: not a plain file, or somebody else's; as with another file system, send the bytes. */
export type AdoptRefusal =
  | 'no such file'
  | 'other file system'
  | 'cannot be linked'
  | 'content does not match'

/** A complete file of another program that should hold a blob. */
export interface OutsideFile {
  readonly digest: Digest
  readonly file: string
  /** Of the file, as lstat(2) says it. */
  readonly inode: bigint
}

export interface Resemblance {
  /** Both names stand for one file. */
  readonly isSameFile: boolean
  /** Projects that own the blob here. */
  readonly projects: ReadonlySet<string>
}

export interface Pin extends Disposable {
  readonly held: ReadonlyMap<Digest, BlobInfo>
  /** Adds digests to the same pin; returns those that are held. */
  add(digests: Iterable<Digest>): BlobInfo[]
}

export interface EvictionPolicy {
  readonly bytesMax: number
  readonly daysMax: number
}

export interface StoreUsage {
  /** On disk, each blob once. */
  readonly bytes: number
  readonly blobs: number
  readonly scopes: ReadonlyMap<ScopeId, { blobs: number; bytes: number; lastUsedAtMs: number }>
  /** Each blob once, however many lines of the project own it. */
  readonly projects: ReadonlyMap<string, { blobs: number; bytes: number }>
}

export type VerifyEvent =
  | { type: 'progress'; blobsDone: number; blobsTotal: number; bytesDone: number }
  | { type: 'finding'; digest: Digest; problem: string; remedy: string }
  | { type: 'summary'; blobs: number; bytes: number; findings: number }

export { type CacheStoreOptions, openCacheStore } from './store.ts'
