/** For tests: cache records as BuildKit would push them, of steps in a row. */
import { type Digest, digestOf } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { Descriptor } from './graph.ts'
import type { ComposedRecord } from './index.ts'
import { parseCacheManifest } from './manifest.ts'

export async function put(
  store: CacheStore,
  scope: Scope,
  bytes: Uint8Array | string,
): Promise<Descriptor> {
  const data = Buffer.from(bytes)
  await using writer = await store.createWriter(scope)
  await writer.write(data)
  const { digest, size } = await writer.commit(digestOf(data))
  return { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size }
}

export interface Step {
  /** Content of its layer; steps of the same name are the same step. */
  name: string
  layer?: string
}

/** What BuildKit would push for steps in a row: layers, config and manifest. Answers the manifest. */
export async function pushRecord(
  store: CacheStore,
  scope: Scope,
  steps: readonly Step[],
  options: { createdAt?: string; withoutBlobs?: boolean; asIndex?: boolean } = {},
): Promise<Digest> {
  const { createdAt = new Date().toISOString() } = options
  const layers = await Promise.all(
    steps.map(async ({ name, layer = name }): Promise<Descriptor> => {
      const bytes = layerBytes(layer)
      if (!options.withoutBlobs) return put(store, scope, bytes)
      const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'
      return { mediaType, digest: digestOf(bytes), size: bytes.length }
    }),
  )
  const config = {
    layers: layers.map(({ digest }, step) => ({ blob: digest, parent: step - 1 })),
    records: steps.map(({ name }, step) => ({
      digest: digestOf(`step ${name}`),
      layers: [{ layer: step, createdAt }],
      ...(step === 0 ? {} : { inputs: [[{ link: step - 1 }]] }),
    })),
  }
  const configDescriptor = {
    ...(await put(store, scope, JSON.stringify(config))),
    mediaType: 'application/vnd.buildkit.cacheconfig.v0',
  }
  const manifest = options.asIndex
    ? { schemaVersion: 2, manifests: [...layers, configDescriptor] }
    : { schemaVersion: 2, config: configDescriptor, layers }
  return (await put(store, scope, JSON.stringify(manifest))).digest
}

export const layerBytes = (name: string): string => `layer ${name}`

/** One step for each letter. */
export const names = (text: string): Step[] => [...text].map((name) => ({ name }))

export function servedDigests(composed: ComposedRecord): Digest[] {
  const [manifest] = composed.documents
  if (manifest === undefined) throw new Error('there is no manifest')
  return parseCacheManifest(manifest.bytes).layers.map(({ digest }) => digest)
}
