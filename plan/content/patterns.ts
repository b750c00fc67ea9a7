/**
 * Path patterns as `.dockerignore`, `--exclude` and `--parents` mean them (github.com/moby/patternmatcher
 * v0.6): `*` and `?` stay inside one name, `**` goes through folders, `!` takes back, and a pattern that
 * matches a folder matches all in it.
 */
import path from 'node:path'
import { HearthError } from '../../core/errors.ts'

export interface PatternMatcher {
  /**
   * @param file relative, with slashes.
   * @param parent what the match of its folder gave; without it the folders above are looked at too.
   */
  match(file: string, parent?: PatternMatch): PatternMatch
  /** Whether something in this folder could match that the folder itself does not tell. */
  mayMatchBelow(folder: string): boolean
  /** The same for the patterns that take back. */
  mayTakeBackBelow(folder: string): boolean
}

export interface PatternMatch {
  readonly matched: boolean
  /** Of each pattern. */
  readonly each: readonly boolean[]
}

interface Pattern {
  readonly takesBack: boolean
  readonly matches: (file: string) => boolean
  /** Names before the first one with a wildcard. */
  readonly fixed: readonly string[]
  readonly names: number
}

/** @throws HearthError `invalid-input` for a pattern that is none. */
export function createPatternMatcher(texts: readonly string[]): PatternMatcher {
  const patterns = texts.flatMap(parsePattern)
  return {
    match(file, parent) {
      const each: boolean[] = []
      let matched = false
      patterns.forEach((pattern, index) => {
        let match = parent?.each[index] ?? false
        // Another pattern of the same kind can change nothing then.
        if (!match && pattern.takesBack === matched) {
          match = pattern.matches(file)
          if (!match && parent === undefined) match = foldersAbove(file).some(pattern.matches)
        }
        each.push(match)
        if (match) matched = !pattern.takesBack
      })
      return { matched, each }
    },
    mayMatchBelow: (folder) => patterns.some((one) => !one.takesBack && reachesInto(one, folder)),
    mayTakeBackBelow: (folder) => patterns.some((one) => one.takesBack && reachesInto(one, folder)),
  }
}

function parsePattern(text: string): Pattern[] {
  const trimmed = text.trim()
  if (trimmed === '') return []
  const cleaned = cleanPattern(trimmed)
  const takesBack = cleaned.startsWith('!')
  const pattern = takesBack ? cleaned.slice(1) : cleaned
  if (pattern === '') throw malformed(text)
  const names = pattern.split('/')
  const wild = names.findIndex((name) => /[*?[\]\\^]/.test(name))
  return [
    {
      takesBack,
      matches: compile(pattern, text),
      fixed: wild === -1 ? names : names.slice(0, wild),
      names: names.length,
    },
  ]
}

function cleanPattern(pattern: string): string {
  const normal = path.posix.normalize(pattern)
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal
}

function reachesInto(pattern: Pattern, folder: string): boolean {
  const folders = folder.split('/')
  const compared = Math.min(folders.length, pattern.fixed.length)
  for (let index = 0; index < compared; index += 1) {
    if (folders[index] !== pattern.fixed[index]) return false
  }
  return pattern.fixed.length < pattern.names || folders.length < pattern.names
}

function compile(pattern: string, text: string): (file: string) => boolean {
  // Two short forms mean something else than their expansion would.
  if (/^\*\*[^*?[\]\\]*$/.test(pattern)) {
    const suffix = pattern.slice(2)
    return (file) => file.endsWith(suffix) || (suffix.startsWith('/') && file === suffix.slice(1))
  }
  if (/^[^*?[\]\\]*\*\*$/.test(pattern)) {
    const prefix = pattern.slice(0, -2)
    return (file) => file.startsWith(prefix)
  }
  let source = ''
  for (let at = 0; at < pattern.length; at += 1) {
    const rest = pattern.slice(at)
    const stars = /^\*\*\/?/.exec(rest)
    if (stars !== null) {
      at += stars[0].length - 1
      source += at + 1 === pattern.length ? '.*' : '(.*/)?'
    } else if (rest.startsWith('*')) source += '[^/]*'
    else if (rest.startsWith('?')) source += '[^/]'
    else if (rest.startsWith('[')) {
      const range = /^\[(\^?)((?:\\.|[^\]\\])+)\]/.exec(rest)
      if (range === null) throw malformed(text)
      at += range[0].length - 1
      source += `[${range[1] ?? ''}${escapeRange(range[2] ?? '')}]`
    } else if (rest.startsWith('\\') && rest.length > 1) {
      at += 1
      source += escapeText(pattern[at] ?? '')
    } else source += escapeText(pattern[at] ?? '')
  }
  try {
    const expression = new RegExp(`^${source}$`)
    return (file) => expression.test(file)
  } catch (cause) {
    throw malformed(text, cause)
  }
}

/** What stands between brackets, for a regular expression: only `-` and escapes keep a meaning. */
export function escapeRange(range: string): string {
  return range.replaceAll(/\\?([[\]\\^])/g, '\\$1').replaceAll(/\\([^[\]\\^-])/g, '$1')
}

export function escapeText(text: string): string {
  return text.replaceAll(/[.+()|{}$^*?[\]\\/]/g, '\\$&')
}

function foldersAbove(file: string): string[] {
  const names = file.split('/').slice(0, -1)
  return names.map((_, index) => names.slice(0, index + 1).join('/'))
}

function malformed(pattern: string, cause?: unknown): HearthError {
  return new HearthError('invalid-input', `"${pattern}" is no path pattern`, { cause })
}
