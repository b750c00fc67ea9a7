/**
 * Packs: archives by GNU tar, which keeps owners, modes, links, extended attributes and times to the nanosecond,
 * compressed by zstd. Both run in a jail with the mount alone (jail.ts).
 */
import { createHash } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { finishDigest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore, Pin } from '../../cache-store/index.ts'
import type { Pack } from './document.ts'
import { type DeadEntry, isSame, type MountEntry, type PackedEntry } from './entries.ts'
import { runInJail } from './jail.ts'
import { type WalkedEntry, walk } from './walk.ts'

/** Nobody waits for a pack to be written. A failure of tar's ends the shell, too: sh(1) would report zstd's alone. */
const packCommand = [
  '{ nice -n 10 tar --create --file=- --format=posix --pax-option=delete=atime,delete=ctime --totals',
  '--no-recursion --numeric-owner --xattrs --acls --null --no-unquote --files-from=-',
  '|| kill $$; } | nice -n 10 zstd --quiet -3 --stdout',
].join(' ')

/**
 * Writes files, or folders without what is in them, into the store.
 * @param options.pin keeps the blob until whoever asked has told of it.
 * @throws HearthError `internal` when something went away or changed meanwhile, `exhausted`, `cancelled`.
 */
export async function writePack(
  store: CacheStore,
  scope: Scope,
  place: { jail: string; content: string },
  entries: readonly MountEntry[],
  options: { holds: Pack['holds']; pin: Pin; signal: AbortSignal },
): Promise<Pack> {
  const { holds, pin, signal } = options
  const names = entries.map(({ path: name }) => `${name === '' ? '.' : name}\0`).join('')
  const input = Buffer.from(names, 'latin1')
  const archiver = runInJail(place, packCommand, { input, signal })
  const hash = createHash('sha256')
  await using writer = await store.createWriter(scope)
  for await (const part of archiver.stdout as AsyncIterable<Buffer>) {
    hash.update(part)
    await writer.write(part)
  }
  const unpacked = Number(/Total bytes written: (\d+)/.exec(await archiver.done)?.[1])
  if (!Number.isSafeInteger(unpacked)) throw new HearthError('internal', 'tar said no total')
  const digest = finishDigest(hash)
  const { size } = await writer.commit(digest)
  pin.add([digest])
  return { digest, size, unpacked, holds }
}

export interface UnpackPlace {
  /** An empty folder that exists, for the jail. */
  readonly jail: string
  /** The folder to make and to fill, as it is called here and where the jail is. */
  readonly work: string
  readonly workInside: string
  readonly namespaceOf?: number | undefined
}

/** Where in the work folder the content comes to be. */
export const contentName = 'mount'

/** zstd's default window for level 3 is 2 MiB; more than this is somebody's bomb. */
const zstdMemoryMegabytes = 128

/**
 * Unpacks packs, one over the other, into a folder beside the mount, and makes sure that exactly the listed entries
 * came of it.
 * @returns what is there now.
 * @throws HearthError `corrupt` when a pack holds anything else, `not-found` when one is not here, `cancelled`.
 */
export async function unpack(
  store: CacheStore,
  scope: Scope,
  place: UnpackPlace,
  content: {
    packs: readonly Pack[]
    entries: readonly PackedEntry[]
    dead: readonly DeadEntry[]
  },
  { signal }: { signal: AbortSignal },
): Promise<WalkedEntry[]> {
  const { work, workInside } = place
  const root = path.join(work, contentName)
  await mkdir(root, { recursive: true, mode: 0o700 })
  const jailed = { jail: place.jail, content: workInside, namespaceOf: place.namespaceOf }
  for (const [index, pack] of content.packs.entries()) {
    const held = store.fileOf(scope, pack.digest)
    if (held === undefined)
      throw new HearthError('not-found', `the pack ${pack.digest} is not here`)
    const dead = content.dead.filter((each) => each.pack === index).map((each) => each.path)
    const { listed, spelled } = excluded(dead)
    const deadFile = `dead-${index}`
    await writeFile(path.join(work, deadFile), Buffer.from(listed, 'latin1'))
    await using file = await open(held.file, 'r')
    const archiver = runInJail(jailed, unpackCommand(pack, deadFile, spelled), {
      input: file.fd,
      signal,
    })
    archiver.stdout.resume()
    try {
      await archiver.done
    } catch (error) {
      if (error instanceof HearthError && error.code === 'internal') throw unusable(error.message)
      throw error
    }
  }
  const { entries } = await walk(root, { signal })
  const problem = difference(content.entries, entries)
  if (problem !== undefined) throw unusable(problem)
  return [...entries]
}

/** `head` is what a bomb meets: more than was packed is never unpacked. */
function unpackCommand({ unpacked }: Pack, deadFile: string, spelled: readonly string[]): string {
  return [
    ...spelled.map((name, index) => `spelled${index}=${printed(name)};`),
    `zstd --quiet --decompress --stdout --memory=${zstdMemoryMegabytes}MB | head -c ${unpacked} |`,
    `tar --extract --file=- --directory=${contentName} --same-permissions --same-owner --numeric-owner`,
    "--xattrs --xattrs-include='*' --acls --delay-directory-restore --warning=no-timestamp",
    `--anchored --no-wildcards --exclude-from=${deadFile}`,
    ...spelled.map((_name, index) => `"--exclude=\${spelled${index}%x}"`),
  ].join(' ')
}

/** Names that lines of a file cannot carry: with line feeds, or with spaces at the end, which tar takes off. */
function excluded(paths: readonly string[]): { listed: string; spelled: string[] } {
  const isPlain = (name: string): boolean => !/\n|\s$/.test(name)
  const listed = paths.filter(isPlain).map((name) => `${name}\n`)
  return { listed: listed.join(''), spelled: paths.filter((name) => !isPlain(name)) }
}

/** A command line is UTF-8 to Node; the shell makes the bytes, with an x behind, or line feeds at the end were lost. */
function printed(name: string): string {
  const octal = Array.from(name, (each) => `\\0${each.charCodeAt(0).toString(8).padStart(3, '0')}`)
  return `$(printf '%bx' '${octal.join('')}')`
}

function difference(
  expected: readonly PackedEntry[],
  found: readonly WalkedEntry[],
): string | undefined {
  const left = new Map(found.map((entry) => [entry.path, entry]))
  for (const entry of expected) {
    const there = left.get(entry.path)
    if (there === undefined) return `${shown(entry)} did not come of its packs`
    if (!isSame(entry, there)) return `${shown(entry)} is not what was listed`
    left.delete(entry.path)
  }
  for (const extra of left.values()) return `${shown(extra)} was not listed`
  return undefined
}

function shown({ path: name }: MountEntry): string {
  return JSON.stringify(name.slice(0, 100))
}

function unusable(why: string): HearthError {
  return new HearthError('corrupt', `a mount snapshot is not used: ${why}`)
}
