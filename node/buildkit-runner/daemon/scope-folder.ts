/**
 * BuildKit's state of one scope on disk:
 *
 *   <folder>/<project>/<line>/root            buildkitd's own
 *   <folder>/<project>/<line>/root.corrupt-N  a state that it could not open, until the next one
 *   <folder>/<project>/<line>/temporary       mount points of running steps, emptied before each start
 *   <folder>/<project>/<line>/addresses       which step has which address, likewise
 *   <folder>/<project>/<line>/buildkitd.log
 *   <folder>/<project>/<line>/used            its time says when a build last used the state
 */
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type Digest, digestHex } from '../../../core/digest.ts'
import { hasErrno } from '../../../core/errors.ts'
import { makeScope, type Scope } from '../../../core/scope.ts'

export interface ScopeFolder {
  readonly folder: string
  readonly root: string
  readonly temporary: string
  readonly addresses: string
  readonly log: string
  readonly used: string
}

export function scopeFolder(base: string, scope: Scope): ScopeFolder {
  const folder = path.join(base, scope.project, scope.line)
  return {
    folder,
    root: path.join(folder, 'root'),
    temporary: path.join(folder, 'temporary'),
    addresses: path.join(folder, 'addresses'),
    log: path.join(folder, 'buildkitd.log'),
    used: path.join(folder, 'used'),
  }
}

/** Where BuildKit keeps a blob: its content store is containerd's local one (plugins/content/local). */
export function contentFileIn(place: ScopeFolder, digest: Digest): string {
  return path.join(contentFolder(place), digestHex(digest))
}

export function contentFolder(place: ScopeFolder): string {
  return path.join(place.root, 'runc-overlayfs', 'content', 'blobs', 'sha256')
}

/** Ms since 1970; undefined when nothing says it. */
export async function readLastUse(place: ScopeFolder): Promise<number | undefined> {
  const found = await stat(place.used).catch(ignoreMissing)
  return found?.mtimeMs
}

/** Does without when the disk is full: then the state only looks older than it is. */
export async function noteUse(place: ScopeFolder): Promise<void> {
  const now = new Date()
  try {
    await utimes(place.used, now, now)
  } catch {
    await writeFile(place.used, '', { mode: 0o600 }).catch(() => {})
  }
}

/** Removes what a killed Hearth had begun to delete, in all scopes below the folder. */
export async function finishDeletions(base: string): Promise<void> {
  for (const project of await folderNames(base)) {
    for (const line of await folderNames(path.join(base, project))) {
      const folder = path.join(base, project, line)
      const names = await folderNames(folder)
      for (const name of names.filter((each) => each.startsWith('deleting-'))) {
        await removeTree(path.join(folder, name))
      }
    }
  }
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

/** Removes states that BuildKit could not open and that were set aside before this moment. */
export async function removeSetAside(place: ScopeFolder, beforeMs: number): Promise<void> {
  for (const name of await folderNames(place.folder)) {
    if (!name.startsWith(asidePrefix)) continue
    const aside = path.join(place.folder, name)
    const found = await stat(aside).catch(ignoreMissing)
    // Renaming changes the time of the name, not of the content (rename(2): ctime).
    if (found !== undefined && found.ctimeMs < beforeMs) await removeTree(aside)
  }
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

/** What `setStateAside` names begin with. */
export const asidePrefix = 'root.corrupt-'

/** Moves a state that BuildKit cannot open out of the way, for whoever wants to look at it. */
export async function setStateAside(place: ScopeFolder): Promise<string> {
  const earlier = (await folderNames(place.folder)).filter((name) => name.startsWith(asidePrefix))
  const last = Math.max(0, ...earlier.map((name) => Number(name.slice(asidePrefix.length)) || 0))
  // One is enough to look at, and the disk is not ours alone.
  for (const name of earlier) await removeTree(path.join(place.folder, name))
  const aside = path.join(place.folder, `${asidePrefix}${last + 1}`)
  await rename(place.root, aside)
  return aside
}

/** Symbolic links are removed, never followed; nothing of a daemon is mounted outside its own namespace. */
function removeTree(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true, maxRetries: 3 })
}

export async function folderNames(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return []
    throw error
  }
}

export function ignoreMissing(error: unknown): undefined {
  if (hasErrno(error, 'ENOENT')) return undefined
  throw error
}
