/**
 * What goes over a fragments stream. Who tells opened it; who listens speaks only to say what it has.
 *
 *     teller:    scopes (what I have, by fingerprint)     at first, and whenever too much has come together
 *     listener:  have   (what I have of this scope)       where the fingerprints differ, or something offered is lacking
 *     teller:    statements                               what the listener lacks, and what the teller publishes
 *     teller:    offer  (this came to me)                 for those whom its maker could not reach
 */
import { z } from 'zod'
import { type Digest, isDigest } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { parseScopeId, type ScopeId, scopeId } from '../../core/scope.ts'
import { frameBytesMax, signedFragmentBytesMax } from '../limits.ts'
import type { FragmentSubject, SignedFragment } from './index.ts'
import type { Ranks } from './shelf.ts'

export const fragmentsProtocol = '/hearth/fragments/1'

export const fragmentProtocols: Readonly<Record<FragmentSubject, string>> = {
  records: fragmentsProtocol,
  mounts: '/hearth/mounts/1',
}

export type Message =
  | { type: 'scopes'; scopes: ReadonlyMap<ScopeId, string> }
  | { type: 'have' | 'offer'; scope: ScopeId; ranks: Ranks }
  | { type: 'statements'; signed: readonly SignedFragment[] }

const letters = { scopes: 0x73, have: 0x68, offer: 0x6f, statements: 0x66 }

/** A name takes at most 80 bytes and a fingerprint 30. */
export const scopesPerMessage = 2_000
/** Digest and rank take at most 100 bytes. */
const ranksPerMessageMax = 2_500
/** Whatever they weigh, they fit into a message. */
export const statementsPerMessage = Math.floor(frameBytesMax / (signedFragmentBytesMax + 2)) - 1

const scopeShape = z
  .string()
  .max(100)
  .transform((text) => scopeId(parseScopeId(text)))
const scopesShape = z.array(z.tuple([scopeShape, z.string().max(40)])).max(scopesPerMessage)
const ranksShape = z.object({
  scope: scopeShape,
  ranks: z
    .array(
      z.tuple([
        z.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
        z.int().min(0),
      ]),
    )
    .max(ranksPerMessageMax),
})

export function encodeMessage(message: Message): Buffer {
  const head = Buffer.from([letters[message.type]])
  switch (message.type) {
    case 'scopes':
      return Buffer.concat([head, json([...message.scopes])])
    case 'statements':
      return Buffer.concat([head, ...message.signed.flatMap(withLength)])
    default: {
      const { scope, ranks } = message
      return Buffer.concat([head, json({ scope, ranks: [...ranks] })])
    }
  }
}

/** @throws HearthError `corrupt` */
export function decodeMessage(frame: Uint8Array): Message {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
  const rest = bytes.subarray(1)
  switch (bytes[0]) {
    case letters.scopes:
      return { type: 'scopes', scopes: new Map(parse(rest, scopesShape)) }
    case letters.have:
    case letters.offer: {
      const { scope, ranks } = parse(rest, ranksShape)
      return { type: bytes[0] === letters.have ? 'have' : 'offer', scope, ranks: new Map(ranks) }
    }
    case letters.statements:
      return { type: 'statements', signed: separate(rest) }
    default:
      throw new HearthError('corrupt', 'a message of an unknown kind')
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function parse<T>(bytes: Buffer, shape: z.ZodType<T>): T {
  try {
    return shape.parse(JSON.parse(bytes.toString('utf8')))
  } catch (cause) {
    throw new HearthError('corrupt', 'a message about fragments that is none', { cause })
  }
}

function withLength(signed: SignedFragment): Uint8Array[] {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(signed.length)
  return [length, signed]
}

function separate(bytes: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + 2 > bytes.length) throw new HearthError('corrupt', 'statements are cut off')
    const end = at + 2 + bytes.readUInt16BE(at)
    if (end > bytes.length) throw new HearthError('corrupt', 'statements are cut off')
    found.push(bytes.subarray(at + 2, end))
    at = end
  }
  return found
}
