/** What BuildKit has exported, as a graph. */
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
import { readDocument } from './documents.ts'
import type { Descriptor, Graph } from './graph.ts'
import { parseCacheManifest, parseJson } from './manifest.ts'
import { configShape, parseConfig } from './record.ts'

/**
 * Without the results whose layers cannot be had whole.
 * @param digest of the manifest; it and the config are in the store.
 * @throws HearthError `invalid-input` when it is no cache record, `not-found` when its documents are not here.
 */
export async function readExportedRecord(
  store: CacheStore,
  scope: Scope,
  digest: Digest,
  canBeHad: (blob: BlobInfo) => boolean,
): Promise<Graph> {
  const manifest = parseCacheManifest(await readDocument(store, scope, digest))
  const had = new Map<Digest, Descriptor>()
  for (const layer of manifest.layers) {
    if (canBeHad(layer)) had.set(layer.digest, layer)
  }
  const bytes = await readDocument(store, scope, manifest.config.digest)
  return parseConfig(parseJson(bytes, configShape, 'a cache record'), had, 0)
}
