/**
 * The entries of a mount: what a walk finds and what a snapshot lists. Paths are bytes to the kernel, so they are
 * kept as latin1 text here, one character a byte, and nobody shows them to people.
 *
 * A list is a blob of its own: zstd over JSON, one array per entry, in the order of paths.
 */
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import { z } from 'zod'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'

export interface MountEntry {
  /** From the mount's root, without a slash at either end; '' is the root itself. */
  readonly path: string
  readonly type: 'file' | 'folder' | 'link'
  /** Octal, as chmod(1) takes it. */
  readonly mode: string
  readonly uid: number
  readonly gid: number
  /** In bytes; 0 for folders. */
  readonly size: number
  /** Seconds since 1970 with ten decimals, which no number of JavaScript's holds. */
  readonly modified: string
  /** Of a symbolic link; else ''. */
  readonly target: string
  /** Number of names that the file has; 1 for folders. */
  readonly names: number
}

export interface PackedEntry extends MountEntry {
  /** Which of the snapshot's packs holds it. */
  readonly pack: number
}

export interface EntryList {
  readonly entries: readonly PackedEntry[]
  /** What packs hold besides: of no use any more. */
  readonly dead: readonly DeadEntry[]
}

export interface DeadEntry {
  readonly path: string
  readonly pack: number
}

/** Of a list once it is unpacked: a million files. */
const listBytesMax = 256 * mib

const rowShape = z.tuple([
  z.string().max(8192),
  z.enum(['f', 'd', 'l']),
  z.string().regex(/^[0-7]{1,4}$/),
  z.int().min(0),
  z.int().min(0),
  z.int().min(0),
  z.string().regex(/^-?\d{1,12}\.\d{10}$/),
  z.string().max(8192),
  z.int().min(1),
  z.int().min(0),
])
const listShape = z.looseObject({
  version: z.literal(1),
  entries: z.array(rowShape),
  dead: z.array(z.tuple([z.string().max(8192), z.int().min(0)])),
})

const letters = { file: 'f', folder: 'd', link: 'l' } as const
const types = { f: 'file', d: 'folder', l: 'link' } as const

export async function writeEntries({ entries, dead }: EntryList): Promise<Buffer> {
  const rows = entries.map(
    ({ path, type, mode, uid, gid, size, modified, target, names, pack }) =>
      [path, letters[type], mode, uid, gid, size, modified, target, names, pack] as const,
  )
  const list = { version: 1, entries: rows, dead: dead.map(({ path, pack }) => [path, pack]) }
  return promisify(zstdCompress)(JSON.stringify(list))
}

/**
 * @param packs number of packs of the snapshot.
 * @throws HearthError `corrupt` when it is no list of what can be in one folder.
 */
export async function readEntries(bytes: Uint8Array, packs: number): Promise<EntryList> {
  let list: z.infer<typeof listShape>
  try {
    const text = await promisify(zstdDecompress)(bytes, { maxOutputLength: listBytesMax })
    list = listShape.parse(JSON.parse(text.toString()))
  } catch (cause) {
    throw new HearthError('corrupt', 'the list of a mount snapshot cannot be read', { cause })
  }
  const entries = list.entries.map(
    ([path, letter, mode, uid, gid, size, modified, target, names, pack]): PackedEntry => {
      const type = types[letter]
      return { path, type, mode, uid, gid, size, modified, target, names, pack }
    },
  )
  const dead = list.dead.map(([path, pack]) => ({ path, pack }))
  checkTree(entries)
  for (const { path, pack } of [...entries, ...dead]) {
    if (pack >= packs || !isInside(path)) throw outside(path)
  }
  return { entries, dead }
}

/** Every entry lies in a folder of the list, so nothing is ever reached through a link. */
function checkTree(entries: readonly PackedEntry[]): void {
  const folders = new Set(entries.filter(({ type }) => type === 'folder').map(({ path }) => path))
  const seen = new Set<string>()
  for (const { path } of entries) {
    if (seen.has(path) || (path !== '' && !folders.has(parentOf(path)))) throw outside(path)
    seen.add(path)
  }
}

function isInside(path: string): boolean {
  if (path === '') return true
  if (path.includes('\0')) return false
  return path.split('/').every((name) => name !== '' && name !== '.' && name !== '..')
}

export function parentOf(path: string): string {
  const at = path.lastIndexOf('/')
  return at === -1 ? '' : path.slice(0, at)
}

function outside(path: string): HearthError {
  const shown = JSON.stringify(path.slice(0, 100))
  return new HearthError('corrupt', `a mount snapshot lists what no folder can hold: ${shown}`)
}

/** Whether two entries of one path are the same to whoever uses the mount. */
export function isSame(a: MountEntry, b: MountEntry): boolean {
  return (
    a.type === b.type &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.size === b.size &&
    a.modified === b.modified &&
    a.target === b.target
  )
}
