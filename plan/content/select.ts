/**
 * The entries of a tree that one selector takes, under the names that BuildKit would hash them by
 * (cache/contenthash/checksum.go of BuildKit 0.34.2): relative to the selected folder, so that the same files
 * elsewhere count as the same.
 */
import path from 'node:path'
import type { Selector } from '../paths.ts'
import { createPatternMatcher, type PatternMatch, type PatternMatcher } from './patterns.ts'
import { resolveEntry, type TreeEntry } from './visible-tree.ts'
import { compileWildcards, fixedPart } from './wildcards.ts'

export interface SelectedEntry {
  /** Where it counts as lying; '' is the selected entry itself. */
  readonly as: string
  readonly entry: TreeEntry
}

/** @returns undefined when the path is not there, which fails the build. */
export function selectEntries(
  tree: TreeEntry,
  root: string,
  selector: Selector,
): SelectedEntry[] | undefined {
  const filtered = selector.include.length > 0 || selector.exclude.length > 0
  if (!selector.wildcard && !filtered) {
    const entry = resolveEntry(tree, root, selector.path, selector.followLinks)
    return entry === undefined ? undefined : wholeOf(entry, '')
  }
  return selectSome(tree, root, selector)
}

/** An entry with all below it. The root has no permissions of its own. */
function wholeOf(entry: TreeEntry, as: string): SelectedEntry[] {
  const selected: SelectedEntry[] = entry.path === '' ? [] : [{ as, entry }]
  for (const [name, child] of entry.children) {
    for (const one of wholeOf(child, as === '' ? name : `${as}/${name}`)) selected.push(one)
  }
  return selected
}

interface Above {
  readonly include: PatternMatch | undefined
  readonly exclude: PatternMatch | undefined
  /** Folders above that are taken once something in them is. */
  readonly waiting: readonly { selected: SelectedEntry; taken: boolean }[]
}

function selectSome(tree: TreeEntry, root: string, selector: Selector): SelectedEntry[] {
  const { include, exclude } = {
    include: matcherOf(selector.include),
    exclude: matcherOf(selector.exclude),
  }
  const matches = selector.wildcard ? compileWildcards(selector.path) : undefined
  const fixed = selector.wildcard ? fixedPart(selector.path) : trimRoot(selector.path)
  const start = resolveEntry(tree, root, fixed, selector.wildcard && fixed !== selector.path)
  const selected: SelectedEntry[] = []

  /** @param named the path as the selector has it, '/' in front; '' for the root. */
  function visit(entry: TreeEntry, named: string, matchedAt: string | undefined, above: Above) {
    const base = matchedAt ?? (matches === undefined ? fixed : undefined)
    const inside = base !== undefined && (named === base || named.startsWith(`${base}/`))
    if (!inside && !(matches?.(named) ?? false)) {
      for (const [name, child] of entry.children) visit(child, `${named}/${name}`, undefined, above)
      return
    }
    const at = inside ? base : named
    const candidate = named.slice(at.length + 1)
    // The root itself has nothing that could be taken.
    const isRoot = named === ''
    const top = above.waiting.length === 0
    const included = include?.match(candidate, top ? undefined : above.include)
    const excluded =
      included?.matched === false
        ? undefined
        : exclude?.match(candidate, top ? undefined : above.exclude)
    const taken = included?.matched !== false && excluded?.matched !== true
    const own = { selected: { as: named.slice(fixed.length), entry }, taken: taken && !isRoot }
    if (own.taken) {
      for (const folder of above.waiting) {
        if (!folder.taken) selected.push(folder.selected)
        folder.taken = true
      }
      selected.push(...(top && selector.followLinks ? followed(own.selected) : [own.selected]))
    }
    if (entry.kind !== 'folder') return
    const below: Above = isRoot
      ? above
      : { include: included, exclude: excluded, waiting: [...above.waiting, own] }
    for (const [name, child] of entry.children) visit(child, `${named}/${name}`, at, below)
  }

  function followed(one: SelectedEntry): SelectedEntry[] {
    if (one.entry.kind !== 'link') return [one]
    const target = resolveEntry(tree, root, one.entry.path, true)
    return target === undefined ? [one] : wholeOf(target, one.as)
  }

  if (start !== undefined) {
    visit(start, fixed, undefined, { include: undefined, exclude: undefined, waiting: [] })
  }
  return selected
}

function matcherOf(patterns: readonly string[]): PatternMatcher | undefined {
  return patterns.length === 0 ? undefined : createPatternMatcher(patterns)
}

function trimRoot(text: string): string {
  const joined = path.posix.join('/', text)
  return joined === '/' ? '' : joined
}
