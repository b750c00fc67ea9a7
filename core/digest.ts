/**
 * Content digests: `sha256:` and 64 lower-case hex digits, as in the OCI image spec
 * (https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests).
 */
import { createHash, type Hash } from 'node:crypto'
import { HearthError } from './errors.ts'

export type Digest = `sha256:${string}`

const pattern = /^sha256:[0-9a-f]{64}$/

export function isDigest(text: string): text is Digest {
  return pattern.test(text)
}

/** @throws HearthError `invalid-input` when the text is no sha256 digest. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text
  throw new HearthError('invalid-input', `"${text.slice(0, 100)}" is not a digest`, {
    hint: 'a digest is "sha256:" and 64 lower-case hex digits',
  })
}

export function digestOf(bytes: Uint8Array | string): Digest {
  return finishDigest(createHash('sha256').update(bytes))
}

/** Closes a running sha256 and names it. */
export function finishDigest(hash: Hash): Digest {
  return `sha256:${hash.digest('hex')}`
}

/** The 64 hex digits of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice('sha256:'.length)
}
