/**
 * The paths of a context that a build names, with the targets of the symbolic links on the way: as patterns
 * of what is included (github.com/tonistiigi/fsutil, followlinks.go).
 */
import { type Dirent, lstatSync, readdirSync, readlinkSync } from 'node:fs'
import path from 'node:path'
import { hasErrno } from '../../core/errors.ts'
import { compareText, hasWildcard } from '../paths.ts'
import { compileWildcards } from './wildcards.ts'

/** @returns undefined when everything is included. */
export function followPaths(root: string, paths: readonly string[]): string[] | undefined {
  if (paths.length === 0) return undefined
  const resolved = new Set<string>()

  function follow(text: string): void {
    const names = path.posix.join('/', text).split('/').slice(1)
    let current = ''
    for (let index = 0; index < names.length; index += 1) {
      current = path.posix.join(current, names[index] ?? '')
      const targets = linkTargets(root, current)
      const last = index === names.length - 1
      if (targets === undefined && !last) continue
      if (resolved.has(current)) return
      resolved.add(current === '' ? '.' : current)
      for (const target of targets ?? []) follow([target, ...names.slice(index + 1)].join('/'))
      if (targets !== undefined) return
    }
  }

  for (const text of paths) follow(text)
  return withoutCovered([...resolved].sort(compareText))
}

/** Where the links go that this path, or with a wildcard in its last name these paths, are. */
function linkTargets(root: string, file: string): string[] | undefined {
  const name = path.posix.basename(file)
  if (!hasWildcard(name)) {
    const target = readLink(root, file)
    return target === undefined ? undefined : [target]
  }
  const folder = path.posix.dirname(file)
  const matches = compileWildcards(name)
  const targets = listFolder(path.join(root, folder))
    .filter((entry) => entry.isSymbolicLink() && matches(entry.name))
    .flatMap((entry) => readLink(root, path.posix.join(folder, entry.name)) ?? [])
  return targets.length === 0 ? undefined : targets
}

function readLink(root: string, file: string): string | undefined {
  const whole = path.join(root, file)
  try {
    if (!lstatSync(whole).isSymbolicLink()) return undefined
    const target = readlinkSync(whole)
    return path.posix.isAbsolute(target)
      ? path.posix.normalize(target)
      : path.posix.join('/', path.posix.dirname(file), target)
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

function listFolder(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

function withoutCovered(sorted: readonly string[]): string[] | undefined {
  const kept: string[] = []
  for (const one of sorted) {
    if (one === '.' || one === '') return undefined
    if (kept.length > 0 && one.startsWith(`${kept.at(-1)}/`)) continue
    kept.push(one)
  }
  return kept
}
