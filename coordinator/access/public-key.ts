/** The keys that others send: P-256, as DER SubjectPublicKeyInfo. */
import { createHash, webcrypto } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'

/** An uncompressed P-256 key takes 91 bytes; what is much longer is none. */
const bytesMax = 200

/** @throws HearthError `invalid-input` */
export async function importPublicKey(spki: Uint8Array): Promise<webcrypto.CryptoKey> {
  try {
    if (spki.byteLength > bytesMax) throw new Error(`${spki.byteLength} bytes`)
    return await webcrypto.subtle.importKey(
      'spki',
      new Uint8Array(spki),
      { name: 'ECDSA', namedCurve: 'P-256' },
      true,
      ['verify'],
    )
  } catch (error) {
    throw new HearthError('invalid-input', 'the public key is not a P-256 key (DER SPKI)', {
      cause: error,
    })
  }
}

export function hashPublicKey(spki: Uint8Array): string {
  return createHash('sha256').update(spki).digest('hex')
}
