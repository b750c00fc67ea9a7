/**
 * Cache mounts that travel: what `RUN --mount=type=cache` has gathered on one node fills the empty mount of another.
 *
 *   step starts ──▶ its mount is empty? ──▶ fill from the scope's snapshots ──▶ step runs
 *   last step ends ──▶ what changed becomes a pack ──▶ a snapshot, signed and told ──▶ other nodes, the object store
 *
 * A snapshot is a list of entries over packs; packs, lists and folders are blobs of the scope in the cache store, and
 * come through its sources like all others.
 *
 * Promises:
 * - A step never sees a half-filled mount: it is complete or empty. Trouble is an empty mount and a line in the log.
 * - No snapshot holds a torn file: it is taken while no step has the mount, given up when something changed meanwhile,
 *   and leaves out what a killed step may have left half-written.
 * - Only snapshots of the scope are used, and only members of the mesh can have said them.
 * - Nothing that a snapshot holds reaches outside the mount, whoever made it.
 */
import type { Digest } from '../../../core/digest.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { FragmentNews } from '../../../mesh/fragments/index.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import type { StepHearer } from '../daemon/index.ts'

export interface Mounts extends AsyncDisposable {
  /** For the daemons: hears of steps before they start and after they have ended. */
  readonly steps: StepHearer
  /**
   * What a solve may run, so that its steps' mounts have names. Until disposed, a step of it that ignores the cache
   * gets its mounts empty.
   */
  learn(scope: Scope): MountLessons
  /** Gets what others know of the scope, within limits; never rejects. For the time before its steps run. */
  ready(scope: Scope, options: { signal: AbortSignal }): Promise<void>
  /**
   * Steps with mounts of these ids will run soon: what is known of them and this node has not is brought, behind what
   * somebody waits for.
   * @param ids as operations have them.
   */
  expect(scope: Scope, ids: readonly string[]): void
  list(): MountState[]
  /**
   * Forgets all snapshots of a project's mounts of this id, here and on all nodes; steps that find an empty mount
   * keep it so. What BuildKit itself has of the mount stays.
   * @returns how many snapshots were forgotten.
   */
  reset(project: string, id?: string): Promise<number>
  /** Resolves when no snapshot is being taken or due. For tests and orderly stops. */
  idle(): Promise<void>
}

export interface MountLessons extends Disposable {
  /** @param definition as BuildKit's solver takes it (pb.Definition), encoded. */
  definition(definition: Uint8Array): void
}

export interface MountState {
  readonly scope: Scope
  /** As the Dockerfile says it: the id, else the target. */
  readonly id: string
  readonly kind: MountKind
  readonly platform: string
  /** Unpacked, of the newest snapshot; 0 when there is none. */
  readonly bytes: number
  readonly files: number
  /** Concurrent ones, which a fresh node merges or chooses from. */
  readonly snapshots: number
  /** Ms since 1970, on this node; undefined when no step has used it here. */
  readonly lastUsedAtMs: number | undefined
  /** What a filled mount has saved a step, at its best; undefined when that is not known. */
  readonly secondsSaved: number | undefined
}

/**
 * `union`: files named by their content or never changed, so that two nodes' files go together. `newest`: anything
 * else, of which only the whole makes sense.
 */
export type MountKind = 'newest' | 'union'

export interface MountsDeps {
  store: CacheStore
  /** Where blobs are that are not here. Absent: nowhere. */
  sources?: BlobSources | undefined
  /** What members say of snapshots. Absent: this node is alone. */
  news?: FragmentNews | undefined
  s3?: Pick<S3Tier, 'keep' | 'fragments'> | undefined
  log: Logger
}

export interface MountsOptions {
  /** Its own: what was last seen of local mounts, and the snapshots that are known. */
  folder: string
  /** "os/arch": what a node compiles is of use to its like alone. */
  platform: string
  /** Of one mount, unpacked. A larger one is not kept; one that only grows loses its oldest packs. Default 8 GiB. */
  bytesMax?: number
  /** How long a step waits for its mount. Default 60 s. */
  fillMsMax?: number
  /** How long after the last step a snapshot is taken. Default 1 s. */
  restMs?: number
}

export type FillOutcome =
  | { readonly type: 'filled'; readonly bytes: number; readonly files: number }
  | { readonly type: 'left'; readonly reason: LeftReason }

export type LeftReason =
  | 'not empty'
  | 'no snapshot yet'
  | 'asked for empty'
  | 'in use'
  | 'larger than what it saves'
  | 'not to be had'
  | 'deadline passed'
  | 'damaged'

/** What tells one mount of a scope from another. */
export interface MountName {
  readonly id: string
  /** See StepMount.variant. */
  readonly variant: string
  readonly platform: string
}

export interface Blob {
  readonly digest: Digest
  readonly size: number
}

export { createMounts } from './mounts.ts'
