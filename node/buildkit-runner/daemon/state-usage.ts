/** How much BuildKit's state of one scope takes on disk, and which of its files may be the cache store's too. */
import { lstat, readdir } from 'node:fs/promises'
import path from 'node:path'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { measureFolders } from '../../../core/disk.ts'
import {
  asidePrefix,
  contentFolder,
  folderNames,
  ignoreMissing,
  type ScopeFolder,
} from './scope-folder.ts'

/** What one scope's BuildKit takes on disk. */
export interface StateUsage {
  /** All of its root, files with several names once. */
  readonly bytes: number
  /** Complete blobs of its content store, which are part of `bytes`. */
  readonly content: readonly ContentFile[]
  /** States that it could not open. Not part of `bytes`. */
  readonly bytesSetAside: number
}

export interface ContentFile {
  readonly digest: Digest
  readonly file: string
  /** Allocated on disk. */
  readonly bytes: number
  /** Which file this name stands for; as bigint because of large file systems. */
  readonly inode: bigint
}

/** Walks the state of a scope; nothing is locked, so what changes meanwhile is measured roughly. */
export async function measureState(
  place: ScopeFolder,
  options: { signal?: AbortSignal } = {},
): Promise<StateUsage> {
  const names = await folderNames(place.folder)
  const aside = names.filter((name) => name.startsWith(asidePrefix))
  const hasRoot = names.includes(path.basename(place.root))
  const content = await listContent(place)
  return {
    bytes: await measureFolders(hasRoot ? [place.root] : [], options),
    content,
    bytesSetAside: await measureFolders(
      aside.map((name) => path.join(place.folder, name)),
      options,
    ),
  }
}

/** The complete blobs in BuildKit's content store. */
async function listContent(place: ScopeFolder): Promise<ContentFile[]> {
  const folder = contentFolder(place)
  const found: ContentFile[] = []
  const names = await readdir(folder).catch(ignoreMissing)
  for (let start = 0; start < (names?.length ?? 0); start += statsAtOnce) {
    const slice = (names ?? []).slice(start, start + statsAtOnce)
    const files = await Promise.all(slice.map((name) => describeContent(folder, name)))
    found.push(...files.filter((file) => file !== undefined))
  }
  return found
}

/** Each waits for a thread of Node's pool, which the rest of the node needs too. */
const statsAtOnce = 4

async function describeContent(folder: string, name: string): Promise<ContentFile | undefined> {
  const digest = `sha256:${name}`
  if (!isDigest(digest)) return undefined
  const file = path.join(folder, name)
  const found = await lstat(file, { bigint: true }).catch(ignoreMissing)
  if (found === undefined || !found.isFile()) return undefined
  return { digest, file, bytes: Number(found.blocks) * blockBytes, inode: found.ino }
}

/** Of `st_blocks`, stat(2). */
const blockBytes = 512
