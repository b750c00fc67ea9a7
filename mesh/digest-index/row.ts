/**
 * A row of the index: who holds one key.
 *
 *   form(1) size(6, big-endian) then
 *   list    node numbers, 2 bytes each, little-endian, ascending, top bit: hot
 *   bitset  two bitsets of equal width by node number: holds it, has it hot
 *
 * A list while few hold it, since most content is in few places; a bitset above, since a thousand numbers
 * would be larger and slower. A row with a bitset never goes back to a list: a digest that many held and few
 * still do is soon held by none.
 */
import { listHoldersMax } from '../limits.ts'
import type { Heat, Holders } from './index.ts'

/** Set in a holder's number where the content is hot. */
export const hotBit = 0x8000

const list = 0
const bitset = 1
const headBytes = 7
const numberMask = hotBit - 1

export interface NodeChange {
  readonly number: number
  /** Undefined: it lost it. */
  readonly heat: Heat | undefined
  /** 0: unknown, what was known stays. */
  readonly size: number
}

/** @returns the new row, undefined when nobody holds it any more, or `row` itself when nothing changed. */
export function changeRow(row: Uint8Array | undefined, change: NodeChange): Uint8Array | undefined {
  const { number, heat } = change
  if (row === undefined) {
    if (heat === undefined) return undefined
    return encodeRow(change.size, [tag(number, heat)])
  }
  const size = change.size === 0 ? sizeOf(row) : change.size
  if (row[0] === bitset) return changeBitset(row, size, change)
  const tags = listTags(row)
  const index = tags.findIndex((other) => (other & numberMask) >= number)
  const there = index >= 0 && ((tags[index] ?? 0) & numberMask) === number
  if (heat === undefined) {
    if (!there) return row
    if (tags.length === 1) return undefined
    tags.splice(index, 1)
    return encodeRow(size, tags)
  }
  const wanted = tag(number, heat)
  if (there && tags[index] === wanted && size === sizeOf(row)) return row
  tags.splice(index < 0 ? tags.length : index, there ? 1 : 0, wanted)
  return encodeRow(size, tags)
}

/** @param tags ascending node numbers with `hotBit`. */
export function encodeRow(size: number, tags: ArrayLike<number>): Uint8Array {
  if (tags.length > listHoldersMax) return encodeBitset(size, tags)
  const row = Buffer.alloc(headBytes + 2 * tags.length)
  row[0] = list
  row.writeUIntBE(size, 1, 6)
  for (let index = 0; index < tags.length; index += 1) {
    row.writeUInt16LE(tags[index] ?? 0, headBytes + 2 * index)
  }
  return row
}

/**
 * Reads a row by index and copies what it returns: LMDB lends the bytes for this turn only.
 * @param alive bitset by node number.
 */
export function readRow(row: Uint8Array, alive: Uint8Array): Holders | undefined {
  const found = row[0] === bitset ? bitsetTags(row, alive) : aliveTags(row, alive)
  return found.length === 0 ? undefined : { size: sizeOf(row), holders: found }
}

/**
 * Writes who of the living holds a row into a matrix of bits, 32 numbers to a word: at `start` who holds it, `words`
 * later who has it hot.
 * @param alive bitset by node number, as words.
 * @param to.bits zero where the row goes.
 */
export function copyRow(
  row: Uint8Array,
  alive: Int32Array,
  to: { bits: Int32Array; start: number; words: number },
): void {
  const { bits, start, words } = to
  if (row[0] === bitset) {
    const width = widthOf(row)
    const whole = Math.min(words, Math.ceil(width / 4))
    for (let word = 0; word < whole; word += 1) {
      const living = alive[word] ?? 0
      bits[start + word] = wordAt(row, headBytes, width, word) & living
      bits[start + words + word] = wordAt(row, headBytes + width, width, word) & living
    }
    return
  }
  for (let offset = headBytes; offset < row.length; offset += 2) {
    const found = tagAt(row, offset)
    const number = found & numberMask
    const bit = (1 << (number & 31)) & (alive[number >> 5] ?? 0)
    const word = start + (number >> 5)
    bits[word] = (bits[word] ?? 0) | bit
    if (found !== number) bits[word + words] = (bits[word + words] ?? 0) | bit
  }
}

/** 32 numbers of a bitset of `width` bytes. */
function wordAt(row: Uint8Array, start: number, width: number, word: number): number {
  const first = word * 4
  const at = start + first
  return (
    (row[at] ?? 0) |
    (first + 1 < width ? (row[at + 1] ?? 0) << 8 : 0) |
    (first + 2 < width ? (row[at + 2] ?? 0) << 16 : 0) |
    (first + 3 < width ? (row[at + 3] ?? 0) << 24 : 0)
  )
}

/** What one node has of a row. */
export function heatIn(row: Uint8Array, number: number): Heat | undefined {
  if (row[0] === bitset) {
    const width = widthOf(row)
    if (!hasBit(row, headBytes, width, number)) return undefined
    return hasBit(row, headBytes + width, width, number) ? 'hot' : 'held'
  }
  for (let offset = headBytes; offset < row.length; offset += 2) {
    const found = tagAt(row, offset)
    if ((found & numberMask) === number) return (found & hotBit) === 0 ? 'held' : 'hot'
  }
  return undefined
}

/** Takes several numbers out at once. @returns as changeRow */
export function withoutNumbers(
  row: Uint8Array,
  gone: readonly number[],
  goneBits: Uint8Array,
): Uint8Array | undefined {
  if (row[0] === bitset) {
    let changed = row
    for (const number of gone) {
      const next = changeRow(changed, { number, heat: undefined, size: 0 })
      if (next === undefined) return undefined
      changed = next
    }
    return changed
  }
  const tags = listTags(row)
  const left = tags.filter((found) => !isSet(goneBits, found & numberMask))
  if (left.length === tags.length) return row
  return left.length === 0 ? undefined : encodeRow(sizeOf(row), left)
}

export function sizeOf(row: Uint8Array): number {
  let size = 0
  for (let index = 1; index < headBytes; index += 1) size = size * 256 + (row[index] ?? 0)
  return size
}

export function isSet(bits: Uint8Array, number: number): boolean {
  return ((bits[number >> 3] ?? 0) & (1 << (number & 7))) !== 0
}

export function setBit(bits: Uint8Array, number: number, on: boolean): void {
  const before = bits[number >> 3] ?? 0
  const bit = 1 << (number & 7)
  bits[number >> 3] = on ? before | bit : before & ~bit
}

function tag(number: number, heat: Heat): number {
  return heat === 'hot' ? number | hotBit : number
}

function tagAt(row: Uint8Array, offset: number): number {
  return (row[offset] ?? 0) | ((row[offset + 1] ?? 0) << 8)
}

function listTags(row: Uint8Array): number[] {
  const tags: number[] = []
  for (let offset = headBytes; offset < row.length; offset += 2) tags.push(tagAt(row, offset))
  return tags
}

/** Filled and copied within one call: a route reads hundreds of rows, and each should allocate once. */
const scratch = new Uint16Array(hotBit)

function aliveTags(row: Uint8Array, alive: Uint8Array): Uint16Array {
  let count = 0
  for (let offset = headBytes; offset < row.length; offset += 2) {
    const next = tagAt(row, offset)
    if (isSet(alive, next & numberMask)) scratch[count++] = next
  }
  return scratch.slice(0, count)
}

function widthOf(row: Uint8Array): number {
  return (row.length - headBytes) >> 1
}

function hasBit(row: Uint8Array, start: number, width: number, number: number): boolean {
  const byte = number >> 3
  return byte < width && ((row[start + byte] ?? 0) & (1 << (number & 7))) !== 0
}

function bitsetTags(row: Uint8Array, alive: Uint8Array): Uint16Array {
  const width = widthOf(row)
  let count = 0
  for (let byte = 0; byte < width; byte += 1) {
    const held = (row[headBytes + byte] ?? 0) & (alive[byte] ?? 0)
    if (held === 0) continue
    const hot = row[headBytes + width + byte] ?? 0
    for (let bit = 0; bit < 8; bit += 1) {
      if ((held & (1 << bit)) === 0) continue
      const number = byte * 8 + bit
      scratch[count++] = (hot & (1 << bit)) === 0 ? number : number | hotBit
    }
  }
  return scratch.slice(0, count)
}

function encodeBitset(size: number, tags: ArrayLike<number>): Uint8Array {
  const highest = (tags[tags.length - 1] ?? 0) & numberMask
  const width = (highest >> 3) + 1
  const row = emptyBitset(size, width)
  for (let index = 0; index < tags.length; index += 1) {
    const next = tags[index] ?? 0
    put(row, width, next & numberMask, (next & hotBit) === 0 ? 'held' : 'hot')
  }
  return row
}

function changeBitset(
  row: Uint8Array,
  size: number,
  { number, heat }: NodeChange,
): Uint8Array | undefined {
  if (heatIn(row, number) === heat && (heat === undefined || size === sizeOf(row))) return row
  const width = widthOf(row)
  const wider = Math.max(width, heat === undefined ? 0 : (number >> 3) + 1)
  const next = emptyBitset(size, wider)
  next.set(row.subarray(headBytes, headBytes + width), headBytes)
  next.set(row.subarray(headBytes + width, headBytes + 2 * width), headBytes + wider)
  put(next, wider, number, heat)
  const isEmpty = next.subarray(headBytes, headBytes + wider).every((byte) => byte === 0)
  return isEmpty ? undefined : next
}

function emptyBitset(size: number, width: number): Buffer {
  const row = Buffer.alloc(headBytes + 2 * width)
  row[0] = bitset
  row.writeUIntBE(size, 1, 6)
  return row
}

function put(row: Uint8Array, width: number, number: number, heat: Heat | undefined): void {
  setBit(row.subarray(headBytes, headBytes + width), number, heat !== undefined)
  setBit(row.subarray(headBytes + width), number, heat === 'hot')
}
