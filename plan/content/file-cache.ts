/**
 * Remembers what files hold, so that only what has changed is read again. A file counts as unchanged while
 * size, times of modification and change, and inode are what they were; where a write could have come so soon
 * after the reading that the file system's clock would not tell ("racy" in git's words), nothing is remembered.
 *
 * One file for each folder, replaced as a whole. It can be lost or damaged at any time: files are read again.
 */
import { createHash } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { compareText } from '../paths.ts'

export interface FileCache {
  /** The content's sha256 as hex, when it is known to be still the same. */
  find(file: string, stat: Stats): string | undefined
  /** @param readAtMs Date.now() from before `stat` was taken. */
  remember(file: string, stat: Stats, hex: string, readAtMs: number): void
  /** Writes what is new; without trouble when that cannot be written. */
  save(): void
}

/** Raised when the form changes; what has another one is forgotten. 16 bytes. */
const header = 'hearth-content-1'

const hexCharacters = 64
/**
 * Numbers for each file: size, times of modification and change in milliseconds, inode. A double holds these
 * times to a quarter of a microsecond: what is closer together than that is racy anyway.
 */
const numbersOfFile = 4

/** Two of the kernel's slowest clock ticks (10 ms). */
const racyMs = 20
/** Where a file system keeps no fractions of seconds; FAT counts in twos. */
const racyCoarseMs = 2_000

// 130 bytes each.
const entriesMax = 200_000
const foldersMax = 64

/** @param folder what the file names are relative to. */
export function openFileCache(cacheFolder: string, folder: string): FileCache {
  const name = `${createHash('sha256').update(folder).digest('hex').slice(0, 32)}.contents`
  const cacheFile = path.join(cacheFolder, name)
  const kept = readCache(cacheFile)
  const fresh = new Map<string, { numbers: readonly number[]; hex: string }>()

  return {
    find(file, stat) {
      const young = fresh.get(file)
      if (young !== undefined) {
        return numbersOf(stat).every((number, at) => number === young.numbers[at])
          ? young.hex
          : undefined
      }
      const index = kept.indexes.get(file)
      if (index === undefined) return undefined
      const { numbers } = kept
      const at = index * numbersOfFile
      const same =
        numbers[at] === stat.size &&
        numbers[at + 1] === stat.mtimeMs &&
        numbers[at + 2] === stat.ctimeMs &&
        numbers[at + 3] === stat.ino
      return same ? hexAt(kept, index) : undefined
    },
    remember(file, stat, hex, readAtMs) {
      if (!isRacy(stat, readAtMs)) fresh.set(file, { numbers: numbersOf(stat), hex })
    },
    save() {
      if (fresh.size === 0) return
      const old = [...kept.indexes].filter(([file]) => !fresh.has(file))
      const entries = [
        ...old.map(([file, index]) => ({
          file,
          numbers: kept.numbers.slice(index * numbersOfFile, (index + 1) * numbersOfFile),
          hex: hexAt(kept, index),
        })),
        ...[...fresh].map(([file, { numbers, hex }]) => ({ file, numbers, hex })),
      ]
      try {
        mkdirSync(cacheFolder, { recursive: true, mode: 0o700 })
        // What is new stands last.
        writeCache(cacheFile, entries.slice(-entriesMax))
        removeOldest(cacheFolder)
      } catch {
        // Full or read-only: the next build reads the files again.
      }
    },
  }
}

function numbersOf({ size, mtimeMs, ctimeMs, ino }: Stats): number[] {
  return [size, mtimeMs, ctimeMs, ino]
}

function isRacy({ mtimeMs, ctimeMs }: Stats, readAtMs: number): boolean {
  const coarse = Number.isInteger(ctimeMs)
  return Math.max(mtimeMs, ctimeMs) >= readAtMs - (coarse ? racyCoarseMs : racyMs)
}

interface Kept {
  readonly indexes: ReadonlyMap<string, number>
  readonly numbers: Float64Array
  /** All hashes, one after the other. */
  readonly hexes: string
}

function hexAt({ hexes }: Kept, index: number): string {
  return hexes.slice(index * hexCharacters, (index + 1) * hexCharacters)
}

const nothingKept: Kept = { indexes: new Map(), numbers: new Float64Array(), hexes: '' }

/** Layout: header, number of files as a double, their numbers, their hashes, their names ending in 0 bytes. */
function readCache(file: string): Kept {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch {
    return nothingKept
  }
  const numbersAt = header.length + 8
  if (bytes.length < numbersAt || bytes.toString('latin1', 0, header.length) !== header) {
    return nothingKept
  }
  const files = bytes.readDoubleLE(header.length)
  const hexesAt = numbersAt + files * numbersOfFile * 8
  const namesAt = hexesAt + files * hexCharacters
  if (!Number.isSafeInteger(files) || files < 0 || namesAt > bytes.length) return nothingKept
  const names = bytes.toString('utf8', namesAt).split('\0')
  if (names.pop() !== '' || names.length !== files) return nothingKept
  return {
    indexes: new Map(names.map((name, index) => [name, index])),
    // A copy, because doubles must lie at multiples of 8.
    numbers: new Float64Array(new Uint8Array(bytes.subarray(numbersAt, hexesAt)).buffer),
    hexes: bytes.toString('latin1', hexesAt, namesAt),
  }
}

function writeCache(
  file: string,
  entries: readonly { file: string; numbers: ArrayLike<number>; hex: string }[],
): void {
  const numbers = new Float64Array(1 + entries.length * numbersOfFile)
  numbers[0] = entries.length
  entries.forEach((entry, index) => {
    numbers.set(entry.numbers, 1 + index * numbersOfFile)
  })
  const bytes = Buffer.concat([
    Buffer.from(header, 'latin1'),
    Buffer.from(numbers.buffer),
    Buffer.from(entries.map(({ hex }) => hex).join(''), 'latin1'),
    Buffer.from(entries.map((entry) => `${entry.file}\0`).join('')),
  ])
  // Several may write at once; each leaves a whole file.
  const temporary = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
  try {
    writeFileSync(temporary, bytes, { mode: 0o600 })
    renameSync(temporary, file)
  } finally {
    rmSync(temporary, { force: true })
  }
}

function removeOldest(cacheFolder: string): void {
  const names = readdirSync(cacheFolder)
  if (names.length <= foldersMax) return
  const aged = names.map((name) => {
    const file = path.join(cacheFolder, name)
    return { file, atMs: statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0 }
  })
  aged.sort((a, b) => b.atMs - a.atMs || compareText(a.file, b.file))
  for (const { file } of aged.slice(foldersMax)) rmSync(file, { force: true })
}
