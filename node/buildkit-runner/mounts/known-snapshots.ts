/**
 * The snapshots that this node knows of, its own and others': documents in rows, so that eviction cannot lose them.
 * Which is newer is said by lineage: a snapshot takes the place of those that it was made from.
 */
import { type Digest, digestOf } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import { formatVersions } from '../../../core/format-version.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { FragmentNews } from '../../../mesh/fragments/index.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import { openFragmentRows } from '../records/fragment-rows.ts'
import {
  blobsOf,
  keyOfMount,
  readDocument,
  replacesMax,
  type SnapshotDocument,
  writeDocument,
} from './document.ts'
import { writeEntries } from './entries.ts'
import type { Blob, MountName } from './index.ts'
import { writeBlob } from './small-blobs.ts'

export interface KnownSnapshot {
  readonly digest: Digest
  /** Above all that its maker knew of the scope: an order on which all agree, no clock. */
  readonly sequence: number
  readonly document: SnapshotDocument
}

export interface KnownSnapshots extends AsyncDisposable {
  /** Those of the mount whose place nobody has taken, the newest last. */
  heads(scope: Scope, name: MountName): KnownSnapshot[]
  /** All that are known of the scope. */
  of(scope: Scope): readonly KnownSnapshot[]
  scopes(): Scope[]
  has(scope: Scope, digest: Digest): boolean
  /** Keeps, signs and tells a snapshot of this node. The blobs that it names are pinned by the caller. */
  publish(scope: Scope, document: SnapshotDocument): Promise<Digest>
  /** A snapshot of nothing in the place of all that are known: it goes where they went. */
  publishEmpty(scope: Scope, name: MountName): Promise<Digest>
  /** Takes what a member has said. @throws HearthError `corrupt`, `version` */
  accept(scope: Scope, digest: Digest, sequence: number, bytes: Uint8Array): Promise<void>
  forget(scope: Scope, digests: readonly Digest[]): Promise<void>
}

/** Concurrent snapshots of one mount: about one per node that grows it. */
const headsMax = 16

/** @throws HearthError `environment` when the folder cannot be used. */
export async function openKnownSnapshots(
  deps: {
    store: CacheStore
    news: FragmentNews | undefined
    s3: Pick<S3Tier, 'keep'> | undefined
    /** Whether a blob can be had, here or elsewhere. */
    isThere: (scope: Scope, blob: Blob) => boolean
    log: Logger
  },
  options: { folder: string },
): Promise<KnownSnapshots> {
  const { news, s3, store, log } = deps
  const rows = await openFragmentRows(options.folder, log)
  const loaded = new Map<ScopeId, Map<Digest, KnownSnapshot>>()
  const uploads = new Set<Promise<void>>()

  function known(scope: Scope): Map<Digest, KnownSnapshot> {
    const before = loaded.get(scopeId(scope))
    if (before !== undefined) return before
    const all = new Map<Digest, KnownSnapshot>()
    for (const { digest, row } of rows.ofScope(scope)) {
      try {
        all.set(digest, { digest, sequence: row.sequence, document: readDocument(row.bytes) })
      } catch (error) {
        log.warn(
          { scope: scopeId(scope), digest, reason: describeError(error) },
          'a mount snapshot is left alone',
        )
      }
    }
    loaded.set(scopeId(scope), all)
    return all
  }

  function ofMount(scope: Scope, name: MountName): KnownSnapshot[] {
    const key = keyOfMount(name)
    return [...known(scope).values()]
      .filter(({ document }) => keyOfMount(document.mount) === key)
      .sort(byAge)
  }

  /** What lacks a blob that nobody has takes nobody's place. */
  const isWhole = (scope: Scope, { document }: KnownSnapshot): boolean =>
    blobsOf(document).every((blob) => deps.isThere(scope, blob))

  function heads(scope: Scope, name: MountName): KnownSnapshot[] {
    const whole = ofMount(scope, name).filter((each) => isWhole(scope, each))
    const replaced = new Set(whole.flatMap(({ document }) => document.replaces))
    return whole.filter(({ digest }) => !replaced.has(digest)).slice(-headsMax)
  }

  /** One generation stays behind what took its place, for when that cannot be had after all. */
  async function tidy(scope: Scope, name: MountName): Promise<void> {
    const all = ofMount(scope, name)
    const replaced = new Set(all.flatMap(({ document }) => document.replaces))
    const earlier = all.filter(({ digest }) => replaced.has(digest))
    const twice = new Set(earlier.flatMap(({ document }) => document.replaces))
    await forget(
      scope,
      earlier.map(({ digest }) => digest).filter((digest) => twice.has(digest)),
    )
  }

  async function forget(scope: Scope, digests: readonly Digest[]): Promise<void> {
    if (digests.length === 0) return
    const all = known(scope)
    const left = digests.flatMap((digest) => all.get(digest) ?? [])
    for (const digest of digests) all.delete(digest)
    await rows.replace(scope, { put: undefined, remove: digests })
    await news?.forget(scope, digests)
    const used = new Set(
      Array.from(all.values(), ({ document }) => blobsOf(document))
        .flat()
        .map(({ digest }) => digest),
    )
    const unused = left.flatMap(({ document }) => blobsOf(document).map(({ digest }) => digest))
    for (const digest of new Set([...digests, ...unused])) {
      if (!used.has(digest)) await store.remove(scope, digest)
    }
  }

  async function put(
    scope: Scope,
    digest: Digest,
    sequence: number,
    bytes: Uint8Array,
  ): Promise<void> {
    const document = readDocument(bytes)
    const row = { version: formatVersions.mountSnapshot, sequence, bytes }
    await rows.replace(scope, { put: { digest, row }, remove: [] })
    known(scope).set(digest, { digest, sequence, document })
    await tidy(scope, document.mount)
  }

  async function publish(scope: Scope, document: SnapshotDocument): Promise<Digest> {
    const { digest, bytes } = writeDocument(document)
    const { size } = await writeBlob(store, scope, { digest, bytes })
    const own = Math.max(0, ...Array.from(known(scope).values(), ({ sequence }) => sequence))
    const sequence = Math.max(own, news?.latest(scope) ?? 0) + 1
    await put(scope, digest, sequence, bytes)
    const told = await news?.publish({ scope, digest, size, sequence })
    if (told !== undefined && s3 !== undefined) {
      const blobs = blobsOf(document)
      const upload = s3
        .keep(scope, { kind: 'mount', statement: told.signed, bytes, blobs })
        .then(() => log.info({ scope: scopeId(scope) }, 'a cache mount is in the object store'))
        .catch((error: unknown) => {
          log.info(
            { scope: scopeId(scope), reason: describeError(error) },
            'a mount snapshot is not in the object store',
          )
        })
        .finally(() => uploads.delete(upload))
      uploads.add(upload)
    }
    return digest
  }

  async function publishEmpty(scope: Scope, name: MountName): Promise<Digest> {
    const bytes = await writeEntries({ entries: [], dead: [] })
    using _pin = store.pin(scope, [digestOf(bytes)])
    const { digest, size } = await writeBlob(store, scope, { digest: digestOf(bytes), bytes })
    const replaces = lineageOf(heads(scope, name))
    const nothing = { packs: [], list: { digest, size }, bytes: 0, files: 0 }
    return publish(scope, { mount: name, kind: 'newest', replaces, ...nothing })
  }

  return {
    heads,
    of: (scope) => [...known(scope).values()].sort(byAge),
    scopes: () => rows.scopes(),
    has: (scope, digest) => known(scope).has(digest),
    publish,
    publishEmpty,
    accept: put,
    forget,
    async [Symbol.asyncDispose]() {
      await rows[Symbol.asyncDispose]()
    },
  }
}

/** The latest first: what they replace in turn comes last. */
export function lineageOf(heads: readonly KnownSnapshot[]): Digest[] {
  const own = heads.map(({ digest }) => digest).reverse()
  const all = [...own, ...heads.toReversed().flatMap(({ document }) => document.replaces)]
  return [...new Set(all)].slice(0, replacesMax)
}

function byAge(a: KnownSnapshot, b: KnownSnapshot): number {
  return a.sequence - b.sequence || (a.digest < b.digest ? -1 : 1)
}
