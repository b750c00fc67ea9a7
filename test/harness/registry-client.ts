/** Images in and out of a registry by the OCI distribution protocol, every byte hashed on the way. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { Readable } from 'node:stream'
import type { BaseImage } from './base-images.ts'

const manifestTypes = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]

interface Descriptor {
  mediaType: string
  digest: string
  size: number
}

/** Pushes a base image as `host/repository:tag`. What the registry has already is not sent again. */
export async function pushImage(
  host: string,
  repository: string,
  tag: string,
  image: BaseImage,
): Promise<string> {
  const base = `http://${host}/v2/${repository}`
  const text = await readFile(path.join(image.folder, 'manifest.json'))
  const manifest = JSON.parse(text.toString()) as { config: Descriptor; layers: Descriptor[] }
  for (const blob of [manifest.config, ...manifest.layers]) {
    const file = path.join(image.folder, 'blobs', blob.digest.replace('sha256:', ''))
    await pushBlob(host, repository, { ...blob, file })
  }
  await expectOk(
    await fetch(`${base}/manifests/${tag}`, {
      method: 'PUT',
      body: text,
      headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    }),
  )
  return `${host}/${repository}:${tag}`
}

/** Sends a blob, unless the registry has it. */
export async function pushBlob(
  host: string,
  repository: string,
  blob: { digest: string; size: number; file: string },
): Promise<void> {
  const base = `http://${host}/v2/${repository}`
  if ((await fetch(`${base}/blobs/${blob.digest}`, { method: 'HEAD' })).ok) return
  const opened = await expectOk(await fetch(`${base}/blobs/uploads/`, { method: 'POST' }))
  const target = new URL(opened.headers.get('location') ?? '', base)
  target.searchParams.set('digest', blob.digest)
  await expectOk(
    await fetch(target, {
      method: 'PUT',
      body: Readable.toWeb(createReadStream(blob.file)) as ReadableStream,
      duplex: 'half',
      headers: { 'content-type': 'application/octet-stream', 'content-length': `${blob.size}` },
    }),
  )
}

export interface FetchedImage {
  /** Digest of what the tag names: a manifest, or an index. */
  digest: string
  /** Digests of the layers of its images, in order. */
  layers: string[]
  bytes: number
}

/**
 * Fetches all of an image: what the tag names, the manifests behind an index, every config and layer.
 * @throws Error when something is missing or is not what its digest says.
 */
export async function fetchImage(
  host: string,
  repository: string,
  tag: string,
): Promise<FetchedImage> {
  const base = `http://${host}/v2/${repository}`
  const layers: string[] = []
  let bytes = 0

  async function fetchBytes(url: string, digest: string | undefined): Promise<Buffer> {
    const answer = await expectOk(
      await fetch(url, { headers: { accept: manifestTypes.join(', ') } }),
    )
    const hash = createHash('sha256')
    const kept: Uint8Array[] = []
    for await (const chunk of answer.body ?? []) {
      hash.update(chunk)
      bytes += chunk.length
      // Layers are only hashed: they may be larger than memory.
      if (!url.includes('/blobs/')) kept.push(chunk)
    }
    const found = `sha256:${hash.digest('hex')}`
    if (digest !== undefined && found !== digest) throw new Error(`${url} is ${found}`)
    return Buffer.concat(kept)
  }

  async function fetchManifest(reference: string): Promise<string> {
    const known = reference.startsWith('sha256:') ? reference : undefined
    const text = await fetchBytes(`${base}/manifests/${reference}`, known)
    const manifest = JSON.parse(text.toString()) as {
      manifests?: Descriptor[]
      config?: Descriptor
      layers?: Descriptor[]
    }
    for (const child of manifest.manifests ?? []) await fetchManifest(child.digest)
    for (const blob of [
      ...(manifest.config ? [manifest.config] : []),
      ...(manifest.layers ?? []),
    ]) {
      await fetchBytes(`${base}/blobs/${blob.digest}`, blob.digest)
      if (blob !== manifest.config) layers.push(blob.digest)
    }
    return `sha256:${createHash('sha256').update(text).digest('hex')}`
  }

  const digest = await fetchManifest(tag)
  return { digest, layers, bytes }
}

async function expectOk(answer: Response): Promise<Response> {
  if (answer.ok) return answer
  throw new Error(`${answer.url} answered ${answer.status}: ${(await answer.text()).slice(0, 500)}`)
}
