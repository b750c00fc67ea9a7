/**
 * BuildKit's state of one scope on disk:
 *
 *   <folder>/<project>/<line>/root            buildkitd's own
 *   <folder>/<project>/<line>/root.corrupt-N  a state that it could not open, until the next one
 *   <folder>/<project>/<line>/temporary       mount points of running steps, emptied before each start
 *   <folder>/<project>/<line>/addresses       which step has which address, likewise
 *   <folder>/<project>/<line>/buildkitd.log
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { type Digest, digestHex } from '../../../core/digest.ts'
import { HearthError, hasErrno } from '../../../core/errors.ts'
import { makeScope, type Scope } from '../../../core/scope.ts'
import { runCommand } from './system-command.ts'

export interface ScopeFolder {
  readonly folder: string
  readonly root: string
  readonly temporary: string
  readonly addresses: string
  readonly log: string
}

export function scopeFolder(base: string, scope: Scope): ScopeFolder {
  const folder = path.join(base, scope.project, scope.line)
  return {
    folder,
    root: path.join(folder, 'root'),
    temporary: path.join(folder, 'temporary'),
    addresses: path.join(folder, 'addresses'),
    log: path.join(folder, 'buildkitd.log'),
  }
}

/** Where BuildKit keeps a blob: its content store is containerd's local one (plugins/content/local). */
export function contentFileIn(place: ScopeFolder, digest: Digest): string {
  return path.join(place.root, 'runc-overlayfs', 'content', 'blobs', 'sha256', digestHex(digest))
}

/** The scopes that have a BuildKit state below the folder. */
export async function listScopes(base: string): Promise<Scope[]> {
  const scopes: Scope[] = []
  for (const project of await folderNames(base)) {
    for (const line of await folderNames(path.join(base, project))) {
      let scope: Scope
      try {
        scope = makeScope(project, line)
      } catch {
        continue // lost+found, or somebody's own folder
      }
      const names = await folderNames(path.join(base, project, line))
      if (names.includes('root')) scopes.push(scope)
    }
  }
  return scopes
}

/** Makes the folders of a daemon that is about to start, without what an earlier one left in them. */
export async function prepareScopeFolder(place: ScopeFolder): Promise<void> {
  await mkdir(place.folder, { recursive: true, mode: 0o700 })
  for (const name of await folderNames(place.folder)) {
    if (name.startsWith('deleting-')) await removeTree(path.join(place.folder, name))
  }
  // Network namespaces end with the daemon's mount namespace; BuildKit would try to release them again.
  await removeTree(path.join(place.root, 'net'))
  for (const emptied of [place.temporary, place.addresses]) {
    await removeTree(emptied)
    await mkdir(emptied, { mode: 0o700 })
  }
}

/** Bytes on disk of all state, also that set aside. 0 when there is none. */
export async function measureState(place: ScopeFolder): Promise<number> {
  const states = (await folderNames(place.folder)).filter((name) => name.startsWith('root'))
  return measureFolders(states.map((name) => path.join(place.folder, name)))
}

/** Bytes on disk, files with several names counted once. */
export async function measureFolders(
  folders: readonly string[],
  options: { signal?: AbortSignal } = {},
): Promise<number> {
  if (folders.length === 0) return 0
  // In a process of its own: a state has hundreds of thousands of files.
  const result = await runCommand(
    'du',
    ['--summarize', '--total', '--one-file-system', '--block-size=1', '--', ...folders],
    { limitMs: 10 * 60_000, ...options },
  )
  // Files that vanish under its eyes make du exit with 1, its total is good all the same.
  const total = result.stdout.match(/^(\d+)\ttotal$/m)?.[1]
  if (total === undefined) {
    throw new HearthError('environment', `cannot measure ${folders.join()}: ${result.stderr}`)
  }
  return Number(total)
}

/** Deletes all state of a stopped daemon. Killed half-way, the rest goes before the next start. */
export async function deleteState(place: ScopeFolder): Promise<void> {
  for (const name of await folderNames(place.folder)) {
    if (!name.startsWith('root')) continue
    const doomed = path.join(place.folder, `deleting-${name}`)
    await removeTree(doomed)
    await rename(path.join(place.folder, name), doomed)
  }
  await removeTree(place.folder)
}

/** Moves a state that BuildKit cannot open out of the way, for whoever wants to look at it. */
export async function setStateAside(place: ScopeFolder): Promise<string> {
  const prefix = 'root.corrupt-'
  const earlier = (await folderNames(place.folder)).filter((name) => name.startsWith(prefix))
  const last = Math.max(0, ...earlier.map((name) => Number(name.slice(prefix.length)) || 0))
  // One is enough to look at, and the disk is not ours alone.
  for (const name of earlier) await removeTree(path.join(place.folder, name))
  const aside = path.join(place.folder, `${prefix}${last + 1}`)
  await rename(place.root, aside)
  return aside
}

/** Symbolic links are removed, never followed; nothing of a daemon is mounted outside its own namespace. */
function removeTree(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true, maxRetries: 3 })
}

async function folderNames(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return []
    throw error
  }
}
