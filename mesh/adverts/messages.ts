/**
 * What goes over an adverts stream. The publisher opened it, or who asks for its log; the subscriber speaks first.
 *
 *     subscriber: have (this is what I know)       again whenever something is missing
 *     publisher:  news, news, …                     batches from there on, or a snapshot and then batches
 *     subscriber: acknowledged (I know all up to)
 *
 * `have` and `acknowledged` name the publisher.
 */
import { z } from 'zod'
import { HearthError } from '../../core/errors.ts'
import type { Position } from '../digest-index/index.ts'

export const advertsProtocol = '/hearth/adverts/1'
/** The same, opened by the subscriber: it asks for the log of a peer that is no neighbour. */
export const logProtocol = '/hearth/log/1'

export type Message =
  | { type: 'have'; publisher: string; position: Position }
  | { type: 'acknowledged'; publisher: string; position: Position }
  | { type: 'news'; sealed: Uint8Array }

const letters = { have: 0x68, acknowledged: 0x61, news: 0x6e }

const positionShape = z.object({
  publisher: z.string().max(100),
  epoch: z
    .int()
    .min(0)
    .lt(2 ** 48),
  sequence: z
    .int()
    .min(0)
    .lt(2 ** 48),
})

export function encodeMessage(message: Message): Buffer {
  const head = Buffer.from([letters[message.type]])
  if (message.type === 'news') return Buffer.concat([head, message.sealed])
  const { publisher, position } = message
  return Buffer.concat([head, Buffer.from(JSON.stringify({ publisher, ...position }))])
}

/** @throws HearthError `corrupt` */
export function decodeMessage(frame: Uint8Array): Message {
  const [letter] = frame
  const rest = frame.subarray(1)
  if (letter === letters.news) return { type: 'news', sealed: rest }
  if (letter !== letters.have && letter !== letters.acknowledged) {
    throw new HearthError('corrupt', 'a message of an unknown kind')
  }
  const { publisher, ...position } = parse(rest)
  return { type: letter === letters.have ? 'have' : 'acknowledged', publisher, position }
}

function parse(bytes: Uint8Array): z.infer<typeof positionShape> {
  try {
    return positionShape.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
  } catch (cause) {
    throw new HearthError('corrupt', 'a position that is none', { cause })
  }
}
