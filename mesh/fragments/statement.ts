/**
 * A statement as it is signed and sent. Everything is big-endian.
 *
 *   signature(64) length(2) of what it is over, and that:
 *   version(1) flags(1: 1 kept) project line digest(32) size(6) sequence(6) maker
 *   then the maker's membership, to the end
 *
 * Texts have their length (1) in front. The membership is not part of what is signed: any that the coordinator has
 * ever issued to the maker will do.
 */
import { type KeyObject, sign, verify } from 'node:crypto'
import { type Digest, digestHex } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { makeScope } from '../../core/scope.ts'
import { publicKeyOfPeer } from '../host/index.ts'
import { signedFragmentBytesMax } from '../limits.ts'
import type { MembershipVerifier, SignedMembership } from '../membership/index.ts'
import type { FragmentStatement, FragmentSubject, KnownFragment } from './index.ts'

const statementVersion = 1
const signatureBytes = 64
const digestBytes = 32
const keptFlag = 1

/** Keeps a signature over a statement of one subject from counting as one over anything else. */
const domainOf = (subject: FragmentSubject): Buffer =>
  Buffer.from(subject === 'records' ? 'hearth fragment\0' : `hearth ${subject}\0`)

/** A maker that has come to it stays there: what ties is ordered by digest. */
export const sequenceMax = 2 ** 40

export function sealStatement(
  statement: FragmentStatement,
  by: { signingKey: KeyObject; membership: SignedMembership; subject?: FragmentSubject },
): KnownFragment {
  const body = write(statement)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(body.length)
  const signed = Buffer.concat([domainOf(by.subject ?? 'records'), body])
  const signature = sign(null, signed, by.signingKey)
  return { statement, signed: Buffer.concat([signature, length, body, by.membership]) }
}

/**
 * Reads a statement without asking who signed it: for what was verified before it was kept.
 * @throws HearthError `corrupt`, `version` when a newer Hearth made it.
 */
export function readStatement(signed: Uint8Array): FragmentStatement {
  return read(parts(signed).body)
}

/**
 * @throws HearthError `corrupt`, `version`, `forbidden` when its maker did not sign it or was never a member.
 */
export function openStatement(
  signed: Uint8Array,
  verifier: MembershipVerifier,
  subject: FragmentSubject = 'records',
): FragmentStatement {
  const { signature, body, membership } = parts(signed)
  const statement = read(body)
  const { maker } = statement
  const key = publicKeyOfPeer(maker)
  const said = Buffer.concat([domainOf(subject), body])
  if (key === undefined || !verify(null, said, key, signature)) {
    throw new HearthError('forbidden', `a fragment of ${maker} is not signed by it`)
  }
  const verdict = verifier.verify(membership, maker)
  // A membership that has expired was one: its signature is looked at before its time.
  if (verdict.type === 'valid' || verdict.reason === 'expired') return statement
  throw new HearthError('forbidden', `a fragment of ${maker}: its membership is ${verdict.reason}`)
}

function parts(signed: Uint8Array): { signature: Buffer; body: Buffer; membership: Buffer } {
  const bytes = Buffer.from(signed.buffer, signed.byteOffset, signed.byteLength)
  if (bytes.length > signedFragmentBytesMax || bytes.length < signatureBytes + 2) {
    throw new HearthError('corrupt', `a fragment's statement of ${bytes.length} bytes`)
  }
  const start = signatureBytes + 2
  const end = start + bytes.readUInt16BE(signatureBytes)
  if (end > bytes.length) throw new HearthError('corrupt', 'the statement of a fragment is cut off')
  return {
    signature: bytes.subarray(0, signatureBytes),
    body: bytes.subarray(start, end),
    membership: bytes.subarray(end),
  }
}

function write({ scope, digest, size, sequence, isKept, maker }: FragmentStatement): Buffer {
  const numbers = Buffer.alloc(12)
  numbers.writeUIntBE(size, 0, 6)
  numbers.writeUIntBE(sequence, 6, 6)
  return Buffer.concat([
    Buffer.from([statementVersion, isKept ? keptFlag : 0]),
    text(scope.project),
    text(scope.line),
    Buffer.from(digestHex(digest), 'hex'),
    numbers,
    text(maker),
  ])
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value, 'latin1')])
}

function read(body: Buffer): FragmentStatement {
  try {
    const version = body.readUInt8(0)
    if (version > statementVersion) {
      throw new HearthError('version', `a fragment's statement has version ${version}`)
    }
    const flags = body.readUInt8(1)
    let at = 2
    const take = (length: number): Buffer => {
      if (at + length > body.length) throw new RangeError('cut off')
      at += length
      return body.subarray(at - length, at)
    }
    const takeText = (): string => take(body.readUInt8(at++)).toString('latin1')
    const scope = makeScope(takeText(), takeText())
    const digest: Digest = `sha256:${take(digestBytes).toString('hex')}`
    const size = take(6).readUIntBE(0, 6)
    const sequence = take(6).readUIntBE(0, 6)
    const maker = takeText()
    if (at !== body.length || flags > keptFlag || sequence > sequenceMax) {
      throw new RangeError('a field out of range')
    }
    return { scope, digest, size, sequence, isKept: flags === keptFlag, maker }
  } catch (cause) {
    if (cause instanceof HearthError && cause.code === 'version') throw cause
    throw new HearthError('corrupt', 'the statement of a fragment is malformed', { cause })
  }
}
