/**
 * What goes over a relay stream. The subscriber opened it and speaks first.
 *
 *     subscriber: have, have, … (this is what I know of each publisher; the last one says so)
 *     hub:        members (memberships, as signed)           all, then those that are new
 *     hub:        present (who has come, who has gone)       all, then what changes
 *     hub:        news (envelopes, as signed)
 *     hub:        behind (what you lack and I do not keep)   the subscriber asks the publisher
 *
 * Numbers are big-endian; peer ids are text with a byte of length.
 */
import { z } from 'zod'
import { HearthError } from '../../core/errors.ts'
import type { Position } from '../digest-index/index.ts'
import { frameBytesMax } from '../limits.ts'
import type { SignedMembership } from '../membership/index.ts'

export const relayProtocol = '/hearth/relay/1'

export interface PublisherPosition {
  readonly publisher: string
  readonly position: Position
}

export type RelayMessage =
  | { type: 'have'; positions: readonly PublisherPosition[]; isLast: boolean }
  | { type: 'behind'; positions: readonly PublisherPosition[] }
  | { type: 'present'; came: readonly string[]; gone: readonly string[] }
  | { type: 'members'; memberships: readonly SignedMembership[] }
  | { type: 'news'; sealed: readonly Uint8Array[] }

/** Messages with this many stay well below the longest that a stream carries. */
export const listedPerMessage = 1_000
export const membershipsPerMessage = 60
/** Of the envelopes of one message, together with four bytes for each. */
export const newsBytesPerMessage = frameBytesMax - 1_024

const letters = { have: 0x68, behind: 0x62, present: 0x70, members: 0x6d, news: 0x6e } as const
const peerIdShape = z.string().min(1).max(100)
const counter = z
  .int()
  .min(0)
  .lt(2 ** 48)
const positionsShape = z
  .array(z.tuple([peerIdShape, counter, counter]))
  .max(listedPerMessage)
  .transform((all) =>
    all.map(([publisher, epoch, sequence]): PublisherPosition => {
      return { publisher, position: { epoch, sequence } }
    }),
  )
const haveShape = z.object({ positions: positionsShape, isLast: z.boolean() })
const behindShape = z.object({ positions: positionsShape })
const presentShape = z.object({
  came: z.array(peerIdShape).max(listedPerMessage),
  gone: z.array(peerIdShape).max(listedPerMessage),
})

export function encodeRelayMessage(message: RelayMessage): Buffer {
  const head = Buffer.from([letters[message.type]])
  switch (message.type) {
    case 'news':
      return Buffer.concat([head, ...withLengths(message.sealed)])
    case 'members':
      return Buffer.concat([head, ...withLengths(message.memberships)])
    case 'present':
      return text(head, { came: message.came, gone: message.gone })
    case 'behind':
      return text(head, { positions: message.positions.map(toTuple) })
    case 'have':
      return text(head, { positions: message.positions.map(toTuple), isLast: message.isLast })
  }
}

/** @throws HearthError `corrupt` */
export function decodeRelayMessage(frame: Uint8Array): RelayMessage {
  const rest = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).subarray(1)
  try {
    switch (frame[0]) {
      case letters.news:
        return { type: 'news', sealed: pieces(rest) }
      case letters.members:
        return { type: 'members', memberships: pieces(rest) }
      case letters.present:
        return { type: 'present', ...presentShape.parse(JSON.parse(rest.toString('utf8'))) }
      case letters.behind:
        return { type: 'behind', ...behindShape.parse(JSON.parse(rest.toString('utf8'))) }
      case letters.have:
        return { type: 'have', ...haveShape.parse(JSON.parse(rest.toString('utf8'))) }
    }
  } catch (cause) {
    throw new HearthError('corrupt', 'a message of a relay that is none', { cause })
  }
  throw new HearthError('corrupt', 'a message of a relay of an unknown kind')
}

function toTuple({ publisher, position }: PublisherPosition): [string, number, number] {
  return [publisher, position.epoch, position.sequence]
}

function text(head: Buffer, content: object): Buffer {
  return Buffer.concat([head, Buffer.from(JSON.stringify(content))])
}

function withLengths(all: readonly Uint8Array[]): Uint8Array[] {
  return all.flatMap((bytes) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return [length, bytes]
  })
}

/** @throws RangeError when the bytes end too early. */
function pieces(bytes: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let offset = 0; offset < bytes.length; ) {
    const end = offset + 4 + bytes.readUInt32BE(offset)
    if (end > bytes.length) throw new RangeError('a piece is cut off')
    found.push(bytes.subarray(offset + 4, end))
    offset = end
  }
  return found
}
