/**
 * Protobuf messages and gRPC frames as bytes: to look into a message and to splice it without decoding
 * what is not understood, so that fields which a newer BuildKit or client has added survive unchanged.
 * Formats: https://protobuf.dev/programming-guides/encoding/ and
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (length-prefixed message).
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { HearthError } from '../core/errors.ts'

export interface WireField {
  readonly number: number
  /** The payload of a length-delimited field; undefined for numbers. */
  readonly bytes: Uint8Array | undefined
  /** Tag and value as they stand in the message. */
  readonly raw: Uint8Array
}

/**
 * The top-level fields of a message, in order. Views into the message, no copies.
 * @throws HearthError `invalid-input` when the bytes are no message.
 */
export function* wireFields(message: Uint8Array): Generator<WireField> {
  const reader = new BinaryReader(message)
  while (reader.pos < reader.len) {
    const start = reader.pos
    try {
      const [number, type] = reader.tag()
      if (type === WireType.LengthDelimited) {
        const bytes = reader.bytes()
        yield { number, bytes, raw: message.subarray(start, reader.pos) }
      } else {
        reader.skip(type, number)
        yield { number, bytes: undefined, raw: message.subarray(start, reader.pos) }
      }
    } catch (cause) {
      throw new HearthError('invalid-input', 'a gRPC message is not valid protobuf', { cause })
    }
  }
}

/** The payloads of every occurrence of a length-delimited field. */
export function fieldBytes(message: Uint8Array, number: number): Uint8Array[] {
  return [...wireFields(message)].flatMap((field) =>
    field.number === number && field.bytes !== undefined ? [field.bytes] : [],
  )
}

/** The last occurrence of a string field, which is the one that counts; '' when absent. */
export function fieldText(message: Uint8Array, number: number): string {
  const last = fieldBytes(message, number).at(-1)
  return last === undefined ? '' : Buffer.from(last).toString()
}

/** One length-delimited field. */
export function encodeField(number: number, payload: Uint8Array | string): Uint8Array {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish()
}

/** One entry of a `map<string, string>` field. */
export function encodeMapEntry(
  number: number,
  key: string,
  value: string | Uint8Array,
): Uint8Array {
  return encodeField(number, Buffer.concat([encodeField(1, key), encodeField(2, value)]))
}

/**
 * A message with fields replaced: `edit` gets each field and answers with its new bytes, or undefined to
 * leave it out; return `field.raw` to keep it.
 */
export function editFields(
  message: Uint8Array,
  edit: (field: WireField) => Uint8Array | undefined,
): Buffer {
  const parts: Uint8Array[] = []
  for (const field of wireFields(message)) {
    const replacement = edit(field)
    if (replacement !== undefined) parts.push(replacement)
  }
  return Buffer.concat(parts)
}

const frameHeaderBytes = 5

/** A message with its gRPC frame header, uncompressed. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(frameHeaderBytes + message.length)
  framed.writeUInt8(0, 0)
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, frameHeaderBytes)
  return framed
}

export interface Frame {
  readonly compressed: boolean
  readonly message: Buffer
}

/**
 * Cuts a stream of bytes into gRPC messages.
 * @throws HearthError `exhausted` when a message is announced as larger than `bytesMax`.
 */
export function createFrameReader(bytesMax: number): (chunk: Uint8Array) => Frame[] {
  let pending: Uint8Array[] = []
  let pendingBytes = 0
  let wantedBytes = frameHeaderBytes
  return (chunk) => {
    pending.push(chunk)
    pendingBytes += chunk.length
    if (pendingBytes < wantedBytes) return []
    let buffer = Buffer.concat(pending)
    const frames: Frame[] = []
    for (;;) {
      wantedBytes = frameHeaderBytes
      if (buffer.length < wantedBytes) break
      const length = buffer.readUInt32BE(1)
      if (length > bytesMax) {
        throw new HearthError('exhausted', `a gRPC message of ${length} bytes is over the limit`)
      }
      wantedBytes += length
      if (buffer.length < wantedBytes) break
      frames.push({
        compressed: buffer.readUInt8(0) !== 0,
        message: buffer.subarray(frameHeaderBytes, wantedBytes),
      })
      buffer = buffer.subarray(wantedBytes)
    }
    pending = [buffer]
    pendingBytes = buffer.length
    return frames
  }
}
