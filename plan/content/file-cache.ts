/**
 * Remembers what files hold, so that only what has changed is read again. A file counts as unchanged while
 * size, times of modification and change, and inode are what they were; where a write could have come so soon
 * after the reading that the file system's clock would not tell ("racy" in git's words), nothing is remembered.
 *
 * One file for each folder, replaced as a whole. It can be lost or damaged at any time: files are read again.
 */
import { createHash } from 'node:crypto'
import {
  type BigIntStats,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { compareText } from '../paths.ts'

export interface FileCache {
  /** The content's sha256 as hex, when it is known to be still the same. */
  find(file: string, stat: BigIntStats): string | undefined
  /** @param readAtMs Date.now() from before `stat` was taken. */
  remember(file: string, stat: BigIntStats, hex: string, readAtMs: number): void
  /** Writes what is new; without trouble when that cannot be written. */
  save(): void
}

/** Raised when the form changes; what has another one is forgotten. */
const header = 'hearth file contents 1'

/** Two of the kernel's slowest clock ticks (10 ms). */
const racyMs = 20
/** Where a file system keeps no fractions of seconds; FAT counts in twos. */
const racyCoarseMs = 2_000

// 130 bytes each: read in 30 ms, as long as 1,000 files take to be hashed.
const entriesMax = 200_000
const foldersMax = 64

/** @param folder what the file names are relative to. */
export function openFileCache(cacheFolder: string, folder: string): FileCache {
  const name = `${createHash('sha256').update(folder).digest('hex').slice(0, 32)}.contents`
  const cacheFile = path.join(cacheFolder, name)
  const known = readCache(cacheFile)
  const used = new Map<string, { stat: string; hex: string }>()
  let changed = false

  return {
    find(file, stat) {
      const entry = known.get(file)
      if (entry === undefined || entry.stat !== statText(stat)) return undefined
      used.set(file, entry)
      return entry.hex
    },
    remember(file, stat, hex, readAtMs) {
      if (isRacy(stat, readAtMs)) return
      used.set(file, { stat: statText(stat), hex })
      changed = true
    },
    save() {
      if (!changed) return
      changed = false
      for (const [file, entry] of used) {
        known.delete(file)
        known.set(file, entry)
      }
      // What was used last stands last.
      const entries = [...known].slice(-entriesMax)
      try {
        mkdirSync(cacheFolder, { recursive: true, mode: 0o700 })
        writeCache(cacheFile, entries)
        removeOldest(cacheFolder)
      } catch {
        // Full or read-only: the next build reads the files again.
      }
    },
  }
}

function statText({ size, mtimeNs, ctimeNs, ino }: BigIntStats): string {
  return `${size} ${mtimeNs} ${ctimeNs} ${ino}`
}

function isRacy(stat: BigIntStats, readAtMs: number): boolean {
  const coarse = stat.ctimeNs % 1_000_000n === 0n
  const beforeMs = BigInt(readAtMs - (coarse ? racyCoarseMs : racyMs))
  return [stat.mtimeNs, stat.ctimeNs].some((timeNs) => timeNs / 1_000_000n >= beforeMs)
}

function readCache(file: string): Map<string, { stat: string; hex: string }> {
  const known = new Map<string, { stat: string; hex: string }>()
  let fields: string[]
  try {
    fields = readFileSync(file, 'utf8').split('\0')
  } catch {
    return known
  }
  if (fields[0] !== header || fields.at(-1) !== '' || fields.length % 3 !== 2) return known
  for (let at = 1; at + 2 < fields.length; at += 3) {
    const [name, stat, hex] = [fields[at], fields[at + 1], fields[at + 2]]
    if (name === undefined || stat === undefined || hex?.length !== 64) return new Map()
    known.set(name, { stat, hex })
  }
  return known
}

function writeCache(file: string, entries: readonly [string, { stat: string; hex: string }][]) {
  const fields = entries.flatMap(([name, { stat, hex }]) => [name, stat, hex])
  // Several may write at once; each leaves a whole file.
  const temporary = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
  try {
    writeFileSync(temporary, [header, ...fields, ''].join('\0'), { mode: 0o600 })
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
