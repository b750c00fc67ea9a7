/**
 * The manifest around a cache record, in both forms that BuildKit writes: an image manifest whose config is
 * the record, or an index that lists the record among the layers (`image-manifest=false`).
 */
import { z } from 'zod'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Descriptor } from './graph.ts'

/** cache/remotecache/v1/types/spec.go */
export const cacheConfigMediaType = 'application/vnd.buildkit.cacheconfig.v0'

const imageManifestMediaType = 'application/vnd.oci.image.manifest.v1+json'

/**
 * Where one build's import came from: containerd's note to itself, which would make every fragment new and
 * hold the capability of a grant. The only annotation that is dropped.
 */
const sourceAnnotation = 'containerd.io/distribution.source'

/** Left out on purpose: `urls` and `data`, which would make BuildKit take a layer from somewhere else. */
export const descriptorShape = z
  .object({
    mediaType: z.string().min(1).max(255),
    digest: z.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
    size: z.int().nonnegative(),
    annotations: z.record(z.string(), z.string()).nullish(),
  })
  .transform(({ mediaType, digest, size, annotations }): Descriptor => {
    const kept = Object.entries(annotations ?? {})
      .filter(([name]) => !name.startsWith(sourceAnnotation))
      .sort(([a], [b]) => (a < b ? -1 : 1))
    const base = { mediaType, digest, size }
    return kept.length === 0 ? base : { ...base, annotations: Object.fromEntries(kept) }
  })

const manifestShape = z.looseObject({
  config: descriptorShape.nullish(),
  layers: z.array(descriptorShape).nullish(),
  manifests: z.array(descriptorShape).nullish(),
})

export interface CacheManifest {
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
}

/** @throws HearthError `invalid-input` when it is no manifest of a cache record. */
export function parseCacheManifest(bytes: Uint8Array): CacheManifest {
  const manifest = parseJson(bytes, manifestShape, 'the manifest of a cache record')
  const isConfig = (each: Descriptor) => each.mediaType === cacheConfigMediaType
  if (manifest.manifests) {
    if (manifest.config || manifest.layers) {
      throw noRecord('the manifest is an image and an index at once')
    }
    // Of several, BuildKit takes the last (remotecache/import.go).
    const config = manifest.manifests.findLast(isConfig)
    if (config === undefined) throw noRecord('the index lists no cache record')
    return { config, layers: manifest.manifests.filter((each) => !isConfig(each)) }
  }
  if (!manifest.config || !isConfig(manifest.config)) {
    throw noRecord('the config of the manifest is no cache record')
  }
  return { config: manifest.config, layers: manifest.layers ?? [] }
}

export function writeCacheManifest({ config, layers }: CacheManifest): {
  bytes: Buffer
  mediaType: string
} {
  const mediaType = imageManifestMediaType
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers }))
  return { bytes, mediaType }
}

/** @throws HearthError `invalid-input`, naming the first thing that is wrong. */
export function parseJson<T>(bytes: Uint8Array, shape: z.ZodType<T>, what: string): T {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
  } catch (cause) {
    throw new HearthError('invalid-input', `${what} is not JSON`, { cause })
  }
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const place = issue === undefined ? '' : `: ${issue.path.join('.')}: ${issue.message}`
  throw new HearthError('invalid-input', `${what} is malformed${place}`)
}

export function noRecord(message: string): HearthError {
  return new HearthError('invalid-input', `no cache record: ${message}`)
}
