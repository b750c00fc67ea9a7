/**
 * News as they are signed and sent. Everything is big-endian.
 *
 *   signature(64) then what it is over:
 *   version(1) kind(1) length(1) publisher epoch(6) sequence(6)
 *   snapshot only: id(8) chunk(4) last(1)
 *   count(4), then per change: what(1: 0 lost, 1 held, 2 hot) key(16) size(6)
 *
 * A batch moves the log from `sequence - 1` to `sequence`. A snapshot's chunks together are the whole content
 * at `sequence`, or what it became a little later: later batches say absolute things, so that repeating them
 * does no harm.
 */
import { type KeyObject, sign, verify } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import { type Change, type Entry, keyBytes, type Position } from '../digest-index/index.ts'
import { publicKeyOfPeer } from '../host/index.ts'
import { batchBytesMax } from '../limits.ts'

export type News =
  | { type: 'batch'; publisher: string; position: Position; changes: readonly Change[] }
  | {
      type: 'snapshot'
      publisher: string
      position: Position
      /** Of this snapshot, so that chunks of two are never mixed. */
      id: string
      chunk: number
      isLast: boolean
      entries: readonly Entry[]
    }

const newsVersion = 1
const batch = 1
const snapshot = 2
const signatureBytes = 64
const changeBytes = 1 + keyBytes + 6
const snapshotIdBytes = 8
const publisherBytesMax = 100
const domain = Buffer.from('hearth advert\0')

/** Most changes in one envelope. */
export const changesMax = Math.floor((batchBytesMax - 300) / changeBytes)

const lost = 0
const held = 1
const hot = 2

export function sealNews(news: News, signingKey: KeyObject): Buffer {
  const changes =
    news.type === 'batch'
      ? news.changes
      : news.entries.map((entry): Change => ({ type: 'gained', entry }))
  if (changes.length > changesMax) throw new Error(`${changes.length} changes are too many`)
  const publisher = Buffer.from(news.publisher, 'latin1')
  const head = Buffer.alloc(3 + publisher.length + 12)
  head[0] = newsVersion
  head[1] = news.type === 'batch' ? batch : snapshot
  head[2] = publisher.length
  publisher.copy(head, 3)
  head.writeUIntBE(news.position.epoch, 3 + publisher.length, 6)
  head.writeUIntBE(news.position.sequence, 9 + publisher.length, 6)
  const body = Buffer.concat([
    head,
    ...(news.type === 'snapshot' ? [chunkHead(news)] : []),
    list(changes),
  ])
  return Buffer.concat([sign(null, Buffer.concat([domain, body]), signingKey), body])
}

/**
 * @throws HearthError `corrupt` when it is malformed, `forbidden` when its publisher did not sign it,
 * `version` when a newer Hearth made it.
 */
export function openNews(sealed: Uint8Array): News {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
  const body = bytes.subarray(signatureBytes)
  try {
    const news = parse(body)
    const key = publicKeyOfPeer(news.publisher)
    const statement = Buffer.concat([domain, body])
    if (key === undefined || !verify(null, statement, key, bytes.subarray(0, signatureBytes))) {
      throw new HearthError('forbidden', `news of ${news.publisher} are not signed by it`)
    }
    return news
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new HearthError('corrupt', 'news are cut off', { cause: error })
  }
}

function chunkHead({ id, chunk, isLast }: Extract<News, { type: 'snapshot' }>): Buffer {
  const head = Buffer.alloc(snapshotIdBytes + 5)
  Buffer.from(id, 'hex').copy(head)
  head.writeUInt32BE(chunk, snapshotIdBytes)
  head[snapshotIdBytes + 4] = isLast ? 1 : 0
  return head
}

function list(changes: readonly Change[]): Buffer {
  const bytes = Buffer.alloc(4 + changes.length * changeBytes)
  bytes.writeUInt32BE(changes.length)
  for (const [index, change] of changes.entries()) {
    const offset = 4 + index * changeBytes
    const key = change.type === 'lost' ? change.key : change.entry.key
    bytes.set(key.subarray(0, keyBytes), offset + 1)
    if (change.type === 'lost') continue
    bytes[offset] = change.entry.heat === 'hot' ? hot : held
    bytes.writeUIntBE(change.entry.size, offset + 1 + keyBytes, 6)
  }
  return bytes
}

/** @throws RangeError where the bytes end too early */
function parse(body: Buffer): News {
  const version = body.readUInt8(0)
  if (version > newsVersion) {
    throw new HearthError('version', `news have version ${version}`, { hint: 'use a newer Hearth' })
  }
  const kind = body.readUInt8(1)
  const publisherEnd = 3 + body.readUInt8(2)
  if (publisherEnd > publisherBytesMax) throw new HearthError('corrupt', 'news have no publisher')
  const publisher = body.toString('latin1', 3, publisherEnd)
  const position = {
    epoch: body.readUIntBE(publisherEnd, 6),
    sequence: body.readUIntBE(publisherEnd + 6, 6),
  }
  const rest = body.subarray(publisherEnd + 12)
  if (kind === batch) return { type: 'batch', publisher, position, changes: parseList(rest) }
  if (kind !== snapshot) throw new HearthError('corrupt', `news are of an unknown kind ${kind}`)
  return {
    type: 'snapshot',
    publisher,
    position,
    id: rest.toString('hex', 0, snapshotIdBytes),
    chunk: rest.readUInt32BE(snapshotIdBytes),
    isLast: rest.readUInt8(snapshotIdBytes + 4) === 1,
    entries: parseList(rest.subarray(snapshotIdBytes + 5)).map((change) => {
      if (change.type === 'gained') return change.entry
      throw new HearthError('corrupt', 'a snapshot speaks of losses')
    }),
  }
}

function parseList(bytes: Buffer): Change[] {
  const count = bytes.readUInt32BE(0)
  if (bytes.length !== 4 + count * changeBytes) throw new HearthError('corrupt', 'news are cut off')
  return Array.from({ length: count }, (_, index): Change => {
    const offset = 4 + index * changeBytes
    const what = bytes.readUInt8(offset)
    const key = bytes.subarray(offset + 1, offset + 1 + keyBytes)
    if (what === lost) return { type: 'lost', key }
    if (what !== held && what !== hot) throw new HearthError('corrupt', 'news of an unknown kind')
    const size = bytes.readUIntBE(offset + 1 + keyBytes, 6)
    return { type: 'gained', entry: { key, size, heat: what === hot ? 'hot' : 'held' } }
  })
}
