/** Where things lie in the bucket: what a person writes, and the keys made of it. */
import { type Digest, digestHex, isDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { makeScope, type Scope } from '../../../core/scope.ts'
import type { FragmentKind } from './index.ts'

export interface BucketLocation {
  readonly bucket: string
  /** Empty, or with a slash at its end. */
  readonly prefix: string
}

export interface FragmentName {
  readonly scope: Scope
  /** Of the fragment's own bytes. */
  readonly digest: Digest
  readonly kind: FragmentKind
}

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
const bucketPattern = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
// Those that every S3 server takes in a key as they are.
const prefixPattern = /^[A-Za-z0-9!_.*'()-]{1,100}(\/[A-Za-z0-9!_.*'()-]{1,100}){0,9}$/

/** @throws HearthError `invalid-input` */
export function parseBucketUrl(url: string): BucketLocation {
  const [, bucket = '', rest = ''] = /^s3:\/\/([^/]*)\/?(.*?)\/*$/.exec(url) ?? []
  if (bucketPattern.test(bucket) && (rest === '' || prefixPattern.test(rest))) {
    return { bucket, prefix: rest === '' ? '' : `${rest}/` }
  }
  throw new HearthError(
    'invalid-input',
    `"${url.slice(0, 200)}" names no place in an object store`,
    {
      hint: 'write s3://BUCKET or s3://BUCKET/PREFIX',
    },
  )
}

/** @throws HearthError `invalid-input` */
export function parseEndpoint(endpoint: string): string {
  const address = URL.parse(endpoint)
  const isPlain = address !== null && address.search === '' && address.username === ''
  if (isPlain && ['http:', 'https:'].includes(address.protocol)) return endpoint
  throw new HearthError('invalid-input', `"${endpoint.slice(0, 200)}" is no endpoint`, {
    hint: 'write http://HOST:PORT or https://HOST:PORT',
  })
}

export const blobsFolder = 'blobs/sha256/'
export const fragmentsFolder = 'fragments/'
export const sweepsFolder = 'sweeps/'

/** Keys as the rest of this room uses them: without the prefix of the bucket's URL. */
export function blobKey(digest: Digest): string {
  return `${blobsFolder}${digestHex(digest)}`
}

export function projectFolder(project: string): string {
  return `${fragmentsFolder}${project}/`
}

export function scopeFolder({ project, line }: Scope): string {
  return `${fragmentsFolder}${project}/${line}/`
}

/** What begins a key's last part, by kind: fragments of records were there first. */
const kindPrefixes: Readonly<Record<FragmentKind, string>> = { record: '', mount: 'mount-' }

export function fragmentKey({ scope, digest, kind }: FragmentName): string {
  return `${scopeFolder(scope)}${kindPrefixes[kind]}${digestHex(digest)}`
}

/** Undefined for what somebody else has put there. */
export function digestOfBlobKey(key: string): Digest | undefined {
  const digest = `sha256:${key.slice(blobsFolder.length)}`
  return key.startsWith(blobsFolder) && isDigest(digest) ? digest : undefined
}

/** Undefined for what somebody else has put there. */
export function fragmentOfKey(key: string): FragmentName | undefined {
  const [, project = '', line = '', prefix = '', hex = ''] =
    /^fragments\/([^/]+)\/([^/]+)\/(mount-)?([^/]+)$/.exec(key) ?? []
  const digest = `sha256:${hex}`
  if (!isDigest(digest)) return undefined
  try {
    return { scope: makeScope(project, line), digest, kind: prefix === '' ? 'record' : 'mount' }
  } catch {
    return undefined
  }
}
