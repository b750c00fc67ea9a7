/** Keys of the index. */
import { type Digest, digestHex, digestOf } from '../../core/digest.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import type { IndexKey } from './index.ts'

export const keyBytes = 16
const longestBytes = 32

/** @param bytes 16 to 32 bytes of a hash. */
export function indexKey(bytes: Uint8Array): IndexKey {
  if (bytes.length < keyBytes || bytes.length > longestBytes) {
    throw new Error(`a key of ${bytes.length} bytes is no hash`)
  }
  return bytes.subarray(0, keyBytes)
}

export function keyOfDigest(digest: Digest): IndexKey {
  return Buffer.from(digestHex(digest).slice(0, 2 * keyBytes), 'hex')
}

/** Of a step's result: a cache is of one scope, so two scopes with the same step say different things. */
export function keyOfStep(scope: Scope, stepKey: Digest): IndexKey {
  return keyOfDigest(digestOf(`${scopeId(scope)} ${stepKey}`))
}

export function compareKeys(a: IndexKey, b: IndexKey): number {
  return Buffer.compare(a, b)
}
