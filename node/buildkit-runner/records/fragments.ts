/** Keeps fragments, and composes each scope's record from them. */
import type { Digest } from '../../../core/digest.ts'
import { describeError, HearthError } from '../../../core/errors.ts'
import { formatVersions } from '../../../core/format-version.ts'
import { mib } from '../../../core/limits.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
import { readFragment, writeFragment } from './fragment.ts'
import { type FragmentRows, openFragmentRows } from './fragment-rows.ts'
import { type Descriptor, type Graph, usefulPart } from './graph.ts'
import type { ComposedRecord, KeepResult, Records } from './index.ts'
import { parseCacheManifest, parseJson } from './manifest.ts'
import { configShape, parseConfig } from './record.ts'
import { createScopeRecord, type KeptFragment, type ScopeRecord } from './scope-record.ts'
import type { ServedRecord } from './serve-record.ts'

export interface RecordsDeps {
  store: CacheStore
  log: Logger
}

export interface RecordsOptions {
  /** Holds the index of fragments, nothing else. */
  folder: string
}

/** BuildKit exports records of any size and imports none above 1 MiB; what we merge may be cut to that. */
const documentBytesMax = 8 * mib

/** A record lists everything that its scope may want; what a build then reads or exports is what it uses. */
const onOffer = { isUse: false }

/** Scopes whose union stays in memory; the others are read again, in a few milliseconds, when asked for. */
const scopesInMemoryMax = 64

/** @throws HearthError `environment`, `corrupt` when the folder cannot be used. */
export async function createRecords(
  deps: RecordsDeps,
  options: RecordsOptions,
): Promise<Records & AsyncDisposable> {
  const { store, log } = deps
  const rows = await openFragmentRows(options.folder, log)
  const scopes = new Map<ScopeId, ScopeRecord>()

  /** The scope's fragments in memory; the scope used longest ago makes room. */
  function recordOf(scope: Scope): ScopeRecord {
    const id = scopeId(scope)
    const record = scopes.get(id) ?? load(scope, rows, log)
    scopes.delete(id)
    scopes.set(id, record)
    for (const oldest of scopes.keys()) {
      if (scopes.size <= scopesInMemoryMax) break
      scopes.delete(oldest)
    }
    return record
  }

  /**
   * Makes the served record from what is held at this instant. Looks at the blobs without pinning them: a
   * pin counts as a use, and most of what is looked at may not be served at all.
   */
  function refresh(scope: Scope, record: ScopeRecord): ServedRecord {
    const held = new Map<Digest, BlobInfo>()
    for (const digest of record.blobs()) {
      const blob = store.stat(scope, digest)
      if (blob !== undefined) held.set(digest, blob)
    }
    return record.refresh(held)
  }

  async function keep(scope: Scope, manifest: Digest): Promise<KeepResult> {
    const graph = usefulPart(await readExport(store, scope, manifest))
    const { digest, bytes } = writeFragment(graph)
    if (graph.records.size === 0) {
      log.info({ scope: scopeId(scope), manifest }, 'an exported record has no layer that is here')
      return { fragment: digest, added: false }
    }
    const added = !recordOf(scope).fragments.has(digest)
    if (added) await writeBlob(store, scope, digest, bytes)

    // From here to the write of the row nothing waits: two builds that end at once get two sequences.
    const record = recordOf(scope)
    const isLatest = record.fragments.get(digest) === record.latest
    const sequence = isLatest ? record.latest : record.latest + 1
    const gone = record.add({ digest, graph, sequence })
    refresh(scope, record)
    // The common case, an unchanged build: nothing to write.
    if (isLatest) return { fragment: digest, added }
    const row = { version: formatVersions.fragment, sequence, bytes }
    await rows.replace(scope, { put: { digest, row }, remove: gone })
    for (const each of gone) await store.remove(scope, each)
    return { fragment: digest, added }
  }

  return {
    keep,
    compose(scope): ComposedRecord {
      const record = recordOf(scope)
      let served = record.served ?? refresh(scope, record)
      let pin = store.pin(scope, served.blobs, onOffer)
      if (pin.held.size < served.blobs.length) {
        // Something was evicted since the record was made. Nothing can be between looking and pinning.
        served = refresh(scope, record)
        const whole = store.pin(scope, served.blobs, onOffer)
        pin[Symbol.dispose]()
        pin = whole
      }
      return {
        documents: served.documents,
        records: served.records,
        layers: served.blobs.length,
        pin,
        [Symbol.dispose]: () => pin[Symbol.dispose](),
      }
    },
    count: (scope) => rows.count(scope),
    async reset(scope) {
      scopes.delete(scopeId(scope))
      await rows.clear(scope)
      // A build may have read the rows again meanwhile.
      scopes.delete(scopeId(scope))
    },
    [Symbol.asyncDispose]: () => rows[Symbol.asyncDispose](),
  }
}

/** Reads the scope's fragments from their rows. What cannot be read is a lost hit and a log line. */
function load(scope: Scope, rows: FragmentRows, log: Logger): ScopeRecord {
  const kept: KeptFragment[] = []
  for (const { digest, row } of rows.ofScope(scope)) {
    const { sequence, version, bytes } = row
    const fields = { scope: scopeId(scope), fragment: digest }
    if (version > formatVersions.fragment) {
      log.warn({ ...fields, version }, 'a cache fragment of a newer Hearth is ignored')
      continue
    }
    try {
      kept.push({ digest, sequence, graph: readFragment(bytes, sequence) })
    } catch (error) {
      log.warn({ ...fields, error: describeError(error) }, 'a cache fragment cannot be read')
    }
  }
  const record = createScopeRecord()
  record.restore(kept)
  return record
}

/** The graph of an exported record, without the results whose layers are not here whole. */
async function readExport(store: CacheStore, scope: Scope, digest: Digest): Promise<Graph> {
  const manifest = parseCacheManifest(await readDocument(store, scope, digest))
  const held = new Map<Digest, Descriptor>()
  for (const layer of manifest.layers) {
    if (store.stat(scope, layer.digest)?.size === layer.size) held.set(layer.digest, layer)
  }
  const bytes = await readDocument(store, scope, manifest.config.digest)
  return parseConfig(parseJson(bytes, configShape, 'a cache record'), held, 0)
}

async function readDocument(store: CacheStore, scope: Scope, digest: Digest): Promise<Buffer> {
  const size = store.stat(scope, digest)?.size ?? 0
  if (size > documentBytesMax) {
    throw new HearthError('invalid-input', `a cache record of ${size} bytes is too large`)
  }
  const source = await store.open(scope, digest, { signal: AbortSignal.timeout(readTimeoutMs) })
  if (source === undefined) {
    throw new HearthError('not-found', `the blob ${digest} of a cache record is not here`)
  }
  return Buffer.concat(await source.toArray())
}

/** A few megabytes from the own disk. */
const readTimeoutMs = 60_000

async function writeBlob(
  store: CacheStore,
  scope: Scope,
  digest: Digest,
  bytes: Uint8Array,
): Promise<void> {
  await using writer = await store.createWriter(scope)
  await writer.write(bytes)
  await writer.commit(digest)
}
