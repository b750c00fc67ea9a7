/**
 * What BuildKit gets to see of a folder: the tree without what `.dockerignore` excludes, narrowed to what the
 * local source includes (github.com/tonistiigi/fsutil, filter.go). Names only: nothing is read but folders.
 */
import { type Dirent, readdirSync, readlinkSync } from 'node:fs'
import { HearthError, hasErrno } from '../../core/errors.ts'
import { followPaths } from './follow-paths.ts'
import { createPatternMatcher, type PatternMatch } from './patterns.ts'

export interface SourceFilter {
  readonly include: readonly string[]
  readonly exclude: readonly string[]
  /** Paths that are included together with what links on the way point to. */
  readonly follow: readonly string[]
}

export type EntryKind = 'file' | 'folder' | 'link' | 'other'

export interface TreeEntry {
  readonly kind: EntryKind
  /** Below the root, with slashes, none in front; '' is the root itself. */
  readonly path: string
  /** By name, sorted; empty for what is no folder. */
  readonly children: ReadonlyMap<string, TreeEntry>
}

/** More than any context that is built: beyond it something is wrong, such as a whole machine as context. */
const entriesMax = 2_000_000

/**
 * Synchronous, for a thread of its own.
 * @throws HearthError `exhausted` for too many entries, or what reading a folder gave
 */
export function readVisibleTree(root: string, filter: SourceFilter): TreeEntry {
  const followed = followPaths(root, filter.follow)
  const included = followed === undefined ? filter.include : [...filter.include, ...followed]
  const include = included.length === 0 ? undefined : createPatternMatcher(included)
  const exclude = filter.exclude.length === 0 ? undefined : createPatternMatcher(filter.exclude)
  let entries = 0

  function readFolder(
    folder: string,
    parents: { include: PatternMatch | undefined; exclude: PatternMatch | undefined },
  ): Map<string, TreeEntry> {
    const children = new Map<string, TreeEntry>()
    for (const found of listFolder(folder === '' ? root : `${root}/${folder}`)) {
      entries += 1
      if (entries > entriesMax) {
        throw new HearthError('exhausted', `${root} holds more than ${entriesMax} entries`)
      }
      const path = folder === '' ? found.name : `${folder}/${found.name}`
      const matches = {
        include: include?.match(path, parents.include),
        exclude: exclude?.match(path, parents.exclude),
      }
      const visible = matches.include?.matched !== false && matches.exclude?.matched !== true
      const kind = kindOf(found)
      if (kind !== 'folder') {
        if (visible) children.set(found.name, { kind, path, children: noChildren })
        continue
      }
      if (!visible && !mayShowBelow(path, matches)) continue
      const below = readFolder(path, matches)
      if (visible || below.size > 0) children.set(found.name, { kind, path, children: below })
    }
    return children
  }

  function mayShowBelow(
    folder: string,
    matches: { include: PatternMatch | undefined; exclude: PatternMatch | undefined },
  ): boolean {
    if (matches.include?.matched === false && include?.mayMatchBelow(folder) === false) return false
    return matches.exclude?.matched !== true || (exclude?.mayTakeBackBelow(folder) ?? false)
  }

  const children = readFolder('', { include: undefined, exclude: undefined })
  return { kind: 'folder', path: '', children }
}

const noChildren: ReadonlyMap<string, TreeEntry> = new Map()

function listFolder(folder: string): Dirent[] {
  try {
    const found = readdirSync(folder, { withFileTypes: true })
    return found.sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    // Gone since its parent was read.
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

function kindOf(entry: Dirent): EntryKind {
  if (entry.isFile()) return 'file'
  if (entry.isDirectory()) return 'folder'
  return entry.isSymbolicLink() ? 'link' : 'other'
}

// The kernel's own limit for one path is 40, BuildKit's 255.
const linksMax = 255

/**
 * Looks up a path of the tree, through symbolic links that stay in it.
 * @param path '/' and what follows it.
 * @param followLast also when the last name is a link.
 */
export function resolveEntry(
  tree: TreeEntry,
  root: string,
  path: string,
  followLast: boolean,
): TreeEntry | undefined {
  let at: TreeEntry[] = [tree]
  const names = path.split('/').filter((name) => name !== '')
  for (let links = 0; names.length > 0; ) {
    const name = names.shift() ?? ''
    if (name === '.') continue
    if (name === '..') {
      if (at.length > 1) at.pop()
      continue
    }
    const entry = at.at(-1)?.children.get(name)
    if (entry === undefined) return undefined
    if (entry.kind !== 'link' || (names.length === 0 && !followLast)) {
      at.push(entry)
      continue
    }
    links += 1
    if (links > linksMax) return undefined
    const target = readlinkSync(`${root}/${entry.path}`)
    if (target.startsWith('/')) at = [tree]
    names.unshift(...target.split('/').filter((part) => part !== ''))
  }
  return at.at(-1)
}
