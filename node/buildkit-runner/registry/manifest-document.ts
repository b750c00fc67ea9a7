/**
 * What a manifest says of itself: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md and
 * image-index.md. Read only as far as a registry must; what it means beyond that is its reader's business.
 */
import { z } from 'zod'
import { type Digest, isDigest } from '../../../core/digest.ts'

/** A digest of any algorithm, by the grammar of the image spec (descriptor.md, "Digests"). */
const digestPattern = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/
/** The registered ones are hex of a known length. */
const registeredPattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/
const digestLengthMax = 256

export function isAnyDigest(text: string): boolean {
  if (text.length > digestLengthMax) return false
  return /^sha(?:256|512):/.test(text) ? registeredPattern.test(text) : digestPattern.test(text)
}

const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

export function isTag(text: string): boolean {
  return tagPattern.test(text)
}

const typeName = z.string().max(255)
/** A list of descriptors as far as it is one. */
const named = z.looseObject({ digest: z.string() })

const shape = z.looseObject({
  // Go writes null for what is empty.
  mediaType: typeName.nullish(),
  artifactType: typeName.nullish(),
  manifests: z.unknown().optional(),
  layers: z.unknown().optional(),
  config: z
    .looseObject({ mediaType: typeName.nullish(), digest: z.unknown().optional() })
    .nullish(),
  subject: z.looseObject({ digest: z.string().refine(isAnyDigest) }).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
})

export interface ManifestDocument {
  readonly mediaType: string
  /** Digest of the manifest that this one is about, whether or not that exists. */
  readonly subject: string | undefined
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
  /** What it consists of, as far as that is named by sha256: its config and layers, and the manifests of an index. */
  readonly blobs: readonly Digest[]
  readonly children: readonly Digest[]
}

/**
 * Undefined when the bytes are no manifest. One that could be read both as an image and as an index is none
 * (CVE-2021-41190): two readers would run different things under one digest.
 */
export function parseManifest(bytes: Uint8Array): ManifestDocument | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString())
  } catch {
    return undefined
  }
  const found = shape.safeParse(parsed)
  if (!found.success) return undefined
  const { data } = found
  const isIndex = (data.manifests ?? undefined) !== undefined
  if (isIndex && (data.layers ?? data.config ?? undefined) !== undefined) return undefined
  const kind = isIndex ? 'index' : 'manifest'
  return {
    mediaType: data.mediaType || `application/vnd.oci.image.${kind}.v1+json`,
    subject: data.subject?.digest,
    // An index has no config to be named after (distribution spec, "Listing Referrers").
    artifactType: data.artifactType || data.config?.mediaType || undefined,
    annotations: data.annotations ?? undefined,
    blobs: digestsIn([data.config, ...listOf(data.layers)]),
    children: digestsIn(listOf(data.manifests)),
  }
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function digestsIn(descriptors: readonly unknown[]): Digest[] {
  const digests = descriptors.map((each) => named.safeParse(each).data?.digest ?? '')
  return [...new Set(digests.filter(isDigest))]
}

/** A content type without its parameters, in lower case: what is compared and kept. */
export function plainType(contentType: string): string {
  return (contentType.split(';', 1)[0] ?? '').trim().toLowerCase()
}
