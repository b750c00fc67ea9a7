/**
 * Versions of everything that is kept. A data folder names its own in the file `format.json`; what is
 * newer than this Hearth is refused before anything in it is touched.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, hasErrno } from './errors.ts'

export const formatVersions = {
  /** Layout of a coordinator's or node's data folder. */
  dataFolder: 1,
  /** gRPC between clients, coordinator and nodes. */
  protocol: 1,
  /** A build's exported cache record as the cache store keeps it. */
  fragment: 1,
  /** A cache mount's content: what is in which pack. */
  mountSnapshot: 1,
  /** Rows of the cache store's index. */
  cacheIndex: 1,
  /** Rows of the registry's table of tags, manifests and referrers. */
  manifestTable: 1,
} as const

/**
 * Creates the folder if needed and stamps it, or checks the stamp that is there.
 * @param kind what lives in the folder, so that a node never starts in a coordinator's.
 * @throws HearthError `version` when a newer Hearth made it, `invalid-input` when it is of another kind.
 */
export async function claimDataFolder(folder: string, kind: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = path.join(folder, 'format.json')
  const found = await readStamp(file)
  if (found === undefined) {
    await writeFileDurably(
      file,
      `${JSON.stringify({ kind, version: formatVersions.dataFolder })}\n`,
    )
    return
  }
  if (found.kind !== kind) {
    throw new HearthError(
      'invalid-input',
      `${folder} holds the data of a ${found.kind}, not of a ${kind}`,
      {
        hint: 'name another folder with --data',
      },
    )
  }
  refuseNewer(`the data folder ${folder}`, found.version, formatVersions.dataFolder)
}

/** @throws HearthError `version` when `found` is newer than `known`. */
export function refuseNewer(what: string, found: number, known: number): void {
  if (found <= known) return
  throw new HearthError(
    'version',
    `${what} has version ${found}; this Hearth knows up to ${known}`,
    {
      hint: 'use a newer Hearth',
    },
  )
}

async function readStamp(file: string): Promise<{ kind: string; version: number } | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const stamp = JSON.parse(text) as { kind?: unknown; version?: unknown }
    if (typeof stamp.kind === 'string' && Number.isInteger(stamp.version)) {
      return { kind: stamp.kind, version: stamp.version as number }
    }
  } catch {
    // Falls through to the error below: unreadable is as bad as incomplete.
  }
  throw new HearthError('corrupt', `${file} is not a format stamp`, {
    hint: 'restore it, or move the folder away and start with an empty one',
  })
}

/** Writes, syncs and renames, so that a reader sees the old content or the new, never a part. */
export async function writeFileDurably(
  file: string,
  content: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  const temporary = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`
  {
    await using handle = await open(temporary, 'wx', mode)
    await handle.writeFile(content)
    await handle.sync()
  }
  await rename(temporary, file)
  await syncFolder(path.dirname(file))
}

/** Makes renames and links in a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r')
  await handle.sync()
}
