/**
 * Images of every kind that a registry has to carry, made from a seed as OCI image layouts
 * (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md): layers plain, gzip and zstd,
 * shared and not, indexes with attestations, artifacts about other manifests, Docker's media types.
 */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'

export interface Descriptor {
  mediaType: string
  digest: string
  size: number
  platform?: { os: string; architecture: string }
  annotations?: Record<string, string>
}

export interface ImageLayout {
  /** Holds `oci-layout`, `index.json` and `blobs/`, of this image alone. */
  readonly folder: string
  readonly root: Descriptor
  readonly isIndex: boolean
  /** The manifest that this one is about. */
  readonly subject: Descriptor | undefined
  /** Every blob and manifest of it, by digest. */
  readonly contents: ReadonlyMap<string, Buffer>
}

const oci = 'application/vnd.oci.image'
const docker = 'application/vnd.docker'

const packings = [
  { type: `${oci}.layer.v1.tar`, pack: (tar: Buffer) => tar },
  { type: `${oci}.layer.v1.tar+gzip`, pack: (tar: Buffer) => gzipSync(tar) },
  { type: `${oci}.layer.v1.tar+zstd`, pack: (tar: Buffer) => zstdCompressSync(tar) },
]

/** Writes `count` image layouts below a folder. The same numbers give the same bytes. */
export async function writeImageLayouts(folder: string, count: number): Promise<ImageLayout[]> {
  const layouts: ImageLayout[] = []
  for (let number = 0; number < count; number += 1) {
    const made = makeImage(number, layouts)
    const place = path.join(folder, String(number))
    await writeLayout(place, made)
    layouts.push({ ...made, folder: place })
  }
  return layouts
}

type Made = Omit<ImageLayout, 'folder'>

function makeImage(number: number, earlier: readonly ImageLayout[]): Made {
  const contents = new Map<string, Buffer>()
  const keep = (mediaType: string, bytes: Buffer): Descriptor => {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    contents.set(digest, bytes)
    return { mediaType, digest, size: bytes.length }
  }
  const keepJson = (mediaType: string, value: object) =>
    keep(mediaType, Buffer.from(JSON.stringify(value)))
  const done = (
    root: Descriptor,
    more: { isIndex?: boolean; subject?: Descriptor } = {},
  ): Made => ({
    root,
    isIndex: more.isIndex ?? false,
    subject: more.subject,
    contents,
  })

  const image = (architecture: string, seed: string): Descriptor => {
    const isDocker = number % 7 === 3
    const layers = layersOf(number, seed).map((tar, place) => {
      const packing = packings[isDocker ? 1 : (number + place) % packings.length] ?? packings[1]
      if (packing === undefined) throw new Error('there are three')
      const type = isDocker ? `${docker}.image.rootfs.diff.tar.gzip` : packing.type
      return { diffId: digestOf(tar), descriptor: keep(type, packing.pack(tar)) }
    })
    const config = keepJson(
      isDocker ? `${docker}.container.image.v1+json` : `${oci}.config.v1+json`,
      {
        architecture,
        os: 'linux',
        config: { Env: [`NUMBER=${number}`] },
        rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
        history: layers.map(() => ({ created: '2023-11-14T22:13:20Z' })),
      },
    )
    const mediaType = isDocker
      ? `${docker}.distribution.manifest.v2+json`
      : `${oci}.manifest.v1+json`
    const manifest = { config, layers: layers.map(({ descriptor }) => descriptor) }
    return keepJson(mediaType, { schemaVersion: 2, mediaType, ...manifest })
  }

  const about = earlier[number - 1]
  if (number % 5 === 4 && about !== undefined) {
    const empty = keep('application/vnd.oci.empty.v1+json', Buffer.from('{}'))
    const statement = keepJson('application/vnd.in-toto+json', { subject: about.root.digest })
    const { mediaType, digest, size } = about.root
    const root = keepJson(`${oci}.manifest.v1+json`, {
      schemaVersion: 2,
      mediaType: `${oci}.manifest.v1+json`,
      artifactType: 'application/vnd.in-toto+json',
      config: empty,
      layers: [statement],
      subject: { mediaType, digest, size },
      annotations: { number: String(number) },
    })
    return done(root, { subject: about.root })
  }
  if (number % 5 === 2) {
    const amd64 = { ...image('amd64', 'a'), platform: { os: 'linux', architecture: 'amd64' } }
    const arm64 = { ...image('arm64', 'b'), platform: { os: 'linux', architecture: 'arm64' } }
    // As BuildKit attaches provenance: docs/attestations/attestation-storage.md of moby/buildkit.
    const statement = keepJson('application/vnd.in-toto+json', { number })
    const config = keepJson(`${oci}.config.v1+json`, {
      architecture: 'unknown',
      os: 'unknown',
      rootfs: { type: 'layers', diff_ids: [statement.digest] },
    })
    const attestation = keepJson(`${oci}.manifest.v1+json`, {
      schemaVersion: 2,
      mediaType: `${oci}.manifest.v1+json`,
      config,
      layers: [statement],
    })
    const root = keepJson(`${oci}.index.v1+json`, {
      schemaVersion: 2,
      mediaType: `${oci}.index.v1+json`,
      manifests: [
        amd64,
        arm64,
        {
          ...attestation,
          platform: { os: 'unknown', architecture: 'unknown' },
          annotations: {
            'vnd.docker.reference.type': 'attestation-manifest',
            'vnd.docker.reference.digest': amd64.digest,
          },
        },
      ],
    })
    return done(root, { isIndex: true })
  }
  return done(image('amd64', 'a'))
}

/** Two layers that a few images share, and one of its own. */
function layersOf(number: number, seed: string): Buffer[] {
  const shared = [`base ${number % 4}`, `middle ${number % 10} ${seed}`]
  return [...shared, `own ${number} ${seed}`].map((name) => tarOf(name, contentOf(name)))
}

/** Up to 60 kB that do not compress much, from a name. */
function contentOf(name: string): Buffer {
  const parts: Buffer[] = []
  const length = 1 + ((name.length * 131) % 1900)
  for (let count = 0; count < length; count += 1) {
    parts.push(createHash('sha256').update(`${name} ${count}`).digest())
  }
  return Buffer.concat(parts)
}

/** One file as ustar (POSIX.1-1988); numbers are octal. */
function tarOf(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(512)
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width, '0')}\0`
  header.write(name.replaceAll(' ', '-'), 0)
  header.write(octal(0o644, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(content.length, 11), 124)
  header.write(octal(1_700_000_000, 11), 136)
  header.write('        ', 148)
  header.write('0', 156)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512)
  return Buffer.concat([header, content, padding, Buffer.alloc(1024)])
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

async function writeLayout(folder: string, { root, contents, isIndex }: Made): Promise<void> {
  const blobs = path.join(folder, 'blobs', 'sha256')
  await mkdir(blobs, { recursive: true })
  await writeFile(path.join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  // crane pushes a layout's own index as it is, and of one image what the index names.
  const list = { schemaVersion: 2, mediaType: `${oci}.index.v1+json`, manifests: [root] }
  const index = isIndex ? contents.get(root.digest) : undefined
  await writeFile(path.join(folder, 'index.json'), index ?? JSON.stringify(list))
  for (const [digest, bytes] of contents) {
    await writeFile(path.join(blobs, digest.replace('sha256:', '')), bytes)
  }
}
