/**
 * Tags, manifests and referrers of clients that push to keep: rows in LMDB, by scope and repository. The
 * bytes themselves are blobs of the cache store, which may evict them: a manifest that lacks its own bytes, or
 * a part that was there when it was pushed, is no manifest, and its row goes when somebody meets it. Who
 * pushes the image again is then told to bring what is missing.
 *
 *   manifests  scope, name, digest           -> what the manifest says of itself
 *   tags       scope, name, tag              -> digest
 *   tagged     scope, name, digest, tag      -> nothing: a manifest's tags
 *   referrers  scope, name, subject, digest  -> nothing: the manifests about another one
 *
 * A change is on disk when its promise resolves, and has happened whole or not at all.
 */
import { mkdirSync } from 'node:fs'
import { type Database, open, type RootDatabase } from 'lmdb'
import type { Digest } from '../../../core/digest.ts'
import { toHearthError } from '../../../core/errors.ts'
import { formatVersions, refuseNewer } from '../../../core/format-version.ts'
import { setAsideDamage, toWriteError } from '../../../core/lmdb-failure.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId, splitScopeId } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'

/** A repository as it is kept: its name without the capability. */
export interface Shelf {
  readonly scope: Scope
  readonly name: string
}

export interface ManifestRow {
  readonly mediaType: string
  /** Bytes. */
  readonly size: number
  readonly subject?: string
  readonly artifactType?: string
  /** Kept for manifests with a subject, whose list of referrers shows them. */
  readonly annotations?: Readonly<Record<string, string>>
  /** Blobs, and manifests of this repository, that it consists of and that were here when it was pushed. */
  readonly blobs?: readonly Digest[]
  readonly children?: readonly Digest[]
}

export interface KeptManifest extends ManifestRow {
  readonly digest: Digest
}

export interface ManifestTable extends AsyncDisposable {
  /** Undefined when there is none, or a part of it is gone. */
  find(shelf: Shelf, reference: Digest | { tag: string }): KeptManifest | undefined
  /** In byte order, from the one after `last`; tags whose manifest is gone are not among them. */
  tags(shelf: Shelf, page: { last: string | undefined; limit: number }): string[]
  /** In the order of their digests, from the one after `last`. Looks at no more than `limit` of them. */
  referrers(
    shelf: Shelf,
    subject: string,
    page: { last: string | undefined; limit: number },
  ): KeptManifest[]
  /**
   * Parts that are not here are not asked for later, either.
   * @returns false when the scope keeps as many manifests or tags as it may.
   */
  put(shelf: Shelf, manifest: KeptManifest, tags: readonly string[]): Promise<boolean>
  /** @returns false when there was no such tag. */
  removeTag(shelf: Shelf, tag: string): Promise<boolean>
  /** With its tags. @returns false when there was no such manifest. */
  removeManifest(shelf: Shelf, digest: Digest): Promise<boolean>
}

export interface ManifestTableOptions {
  /** Its own, created if absent. */
  folder: string
  /** Manifests of one scope, and tags of one scope. Default 100,000. */
  rowsMax?: number
}

type Key = string[]

interface Tables {
  readonly manifests: Database<ManifestRow, Key>
  readonly tags: Database<Digest, Key>
  readonly tagged: Database<boolean, Key>
  readonly referrers: Database<boolean, Key>
  readonly meta: Database<number, string>
}

const versionKey = 'version'

/** Sorts behind every tag, digest and name. */
const afterAll = '\uffff'

/** Longer than any tag or digest that is kept; LMDB refuses long keys. */
const lastLengthMax = 256

/** Tags and digests have no character below "+", so nothing lies between this and the next key. */
function justAfter(last: string): string {
  return `${last.slice(0, lastLengthMax)}!`
}

/** Tags looked at between two looks at what was asked for: most are there. */
const pageSlack = 64

/** @throws HearthError `version` when a newer Hearth wrote it, `environment` when it cannot be used. */
export async function openManifestTable(
  deps: { store: CacheStore; log: Logger },
  options: ManifestTableOptions,
): Promise<ManifestTable> {
  await setAsideDamage(options.folder, deps.log)
  const { root, tables } = openTables(options.folder)
  try {
    const version = tables.meta.get(versionKey) ?? formatVersions.manifestTable
    refuseNewer(`the registry's table in ${options.folder}`, version, formatVersions.manifestTable)
    await tables.meta.put(versionKey, formatVersions.manifestTable)
    return await createTable(deps, root, tables, options)
  } catch (error) {
    await root.close()
    throw error
  }
}

function openTables(folder: string): { root: RootDatabase; tables: Tables } {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const root = open(folder, {
      maxDbs: 8,
      // The cache index says why both are off: a resolved write is then a durable one, and a failed one
      // rejects its own promise alone.
      overlappingSync: false,
      eventTurnBatching: false,
    })
    const tables: Tables = {
      manifests: root.openDB('manifests', { encoding: 'msgpack' }),
      tags: root.openDB('tags', { encoding: 'msgpack' }),
      tagged: root.openDB('tagged', { encoding: 'msgpack' }),
      referrers: root.openDB('referrers', { encoding: 'msgpack' }),
      meta: root.openDB('meta', { encoding: 'msgpack' }),
    }
    return { root, tables }
  } catch (error) {
    throw toHearthError(error, `open the registry's table in ${folder}`)
  }
}

async function createTable(
  deps: { store: CacheStore; log: Logger },
  root: RootDatabase,
  tables: Tables,
  options: ManifestTableOptions,
): Promise<ManifestTable> {
  const { manifests, tags, tagged, referrers } = tables
  const { rowsMax = 100_000 } = options
  const counts = { manifests: new Map<ScopeId, number>(), tags: new Map<ScopeId, number>() }
  const count = (of: Map<ScopeId, number>, scope: ScopeId, change: 1 | -1): void => {
    of.set(scope, (of.get(scope) ?? 0) + change)
  }

  async function write<T>(change: () => T): Promise<T> {
    try {
      return await root.transaction(change)
    } catch (error) {
      throw await toWriteError(error, options.folder)
    }
  }

  // Inside a transaction.
  function dropTag(scope: ScopeId, name: string, tag: string): boolean {
    const digest = tags.get([scope, name, tag])
    if (digest === undefined) return false
    tags.removeSync([scope, name, tag])
    tagged.removeSync([scope, name, digest, tag])
    count(counts.tags, scope, -1)
    return true
  }

  function dropManifest(scope: ScopeId, name: string, digest: Digest): boolean {
    const row = manifests.get([scope, name, digest])
    if (row === undefined) return false
    const range = { start: [scope, name, digest], end: [scope, name, digest, afterAll] }
    for (const [, , , tag = ''] of [...tagged.getKeys(range)]) dropTag(scope, name, tag)
    if (row.subject !== undefined) referrers.removeSync([scope, name, row.subject, digest])
    manifests.removeSync([scope, name, digest])
    count(counts.manifests, scope, -1)
    return true
  }

  const isHeld = (scope: Scope, digest: Digest): boolean =>
    deps.store.stat(scope, digest) !== undefined

  /** @param seen manifests of this look-up that are known to be whole: indexes may share them. */
  function isWhole(shelf: Shelf, digest: Digest, seen: Set<Digest>): boolean {
    if (seen.has(digest)) return true
    const row = manifests.get([scopeId(shelf.scope), shelf.name, digest])
    if (row === undefined || !isHeld(shelf.scope, digest)) return false
    if (!(row.blobs ?? []).every((blob) => isHeld(shelf.scope, blob))) return false
    if (!(row.children ?? []).every((child) => isWhole(shelf, child, seen))) return false
    seen.add(digest)
    return true
  }

  /** The row, unless something of it has gone; then the row goes too, while nobody waits for it. */
  function findWhole(shelf: Shelf, digest: Digest): KeptManifest | undefined {
    const scope = scopeId(shelf.scope)
    const row = manifests.get([scope, shelf.name, digest])
    if (row === undefined) return undefined
    if (isWhole(shelf, digest, new Set())) return { ...row, digest }
    write(() => {
      // It may have been pushed again meanwhile.
      if (!isWhole(shelf, digest, new Set())) dropManifest(scope, shelf.name, digest)
    }).catch((error: unknown) => deps.log.warn({ error }, 'a manifest without bytes stays listed'))
    return undefined
  }

  const lost: [ScopeId, string, Digest][] = []
  for (const key of manifests.getKeys()) {
    const [scope, name = '', digest] = key as [ScopeId, string, Digest]
    count(counts.manifests, scope, 1)
    if (!isHeld(splitScopeId(scope), digest)) lost.push([scope, name, digest])
  }
  for (const [scope] of tags.getKeys()) count(counts.tags, scope as ScopeId, 1)
  if (lost.length > 0) {
    await write(() => {
      for (const [scope, name, digest] of lost) dropManifest(scope, name, digest)
    })
    deps.log.info({ manifests: lost.length }, 'manifests whose bytes were evicted are forgotten')
  }

  return {
    find(shelf, reference) {
      const digest =
        typeof reference === 'string'
          ? reference
          : tags.get([scopeId(shelf.scope), shelf.name, reference.tag])
      return digest === undefined ? undefined : findWhole(shelf, digest)
    },

    tags(shelf, { last, limit }) {
      const { name } = shelf
      const scope = scopeId(shelf.scope)
      const found: string[] = []
      let after = last
      while (found.length < limit) {
        const start = [scope, name, after === undefined ? '' : justAfter(after)]
        const page = [
          ...tags.getRange({ start, end: [scope, name, afterAll], limit: limit + pageSlack }),
        ]
        for (const { key, value } of page) {
          after = key[2]
          if (after === undefined || found.length === limit) break
          if (findWhole(shelf, value) !== undefined) found.push(after)
        }
        if (page.length < limit + pageSlack) break
      }
      return found
    },

    referrers(shelf, subject, { last, limit }) {
      const prefix = [scopeId(shelf.scope), shelf.name, subject]
      const start = last === undefined ? prefix : [...prefix, justAfter(last)]
      const keys = referrers.getKeys({ start, end: [...prefix, afterAll], limit })
      return Array.from(keys).flatMap(([, , , digest]) => {
        const row = findWhole(shelf, digest as Digest)
        return row === undefined ? [] : [row]
      })
    },

    put(shelf, { digest, blobs = [], children = [], ...rest }, names) {
      const { name } = shelf
      const scope = scopeId(shelf.scope)
      return write(() => {
        const row: ManifestRow = {
          ...rest,
          blobs: blobs.filter((blob) => isHeld(shelf.scope, blob)),
          children: children.filter((child) => isWhole(shelf, child, new Set())),
        }
        const isNew = manifests.get([scope, name, digest]) === undefined
        const newTags = names.filter((tag) => tags.get([scope, name, tag]) === undefined)
        const manifestsAfter = (counts.manifests.get(scope) ?? 0) + (isNew ? 1 : 0)
        const tagsAfter = (counts.tags.get(scope) ?? 0) + newTags.length
        if (manifestsAfter > rowsMax || tagsAfter > rowsMax) return false
        manifests.putSync([scope, name, digest], row)
        if (isNew) count(counts.manifests, scope, 1)
        if (row.subject !== undefined) referrers.putSync([scope, name, row.subject, digest], true)
        for (const tag of names) {
          dropTag(scope, name, tag)
          tags.putSync([scope, name, tag], digest)
          tagged.putSync([scope, name, digest, tag], true)
          count(counts.tags, scope, 1)
        }
        return true
      })
    },

    removeTag: ({ scope, name }, tag) => write(() => dropTag(scopeId(scope), name, tag)),

    removeManifest: ({ scope, name }, digest) =>
      write(() => dropManifest(scopeId(scope), name, digest)),

    async [Symbol.asyncDispose]() {
      await root.close()
    },
  }
}
