/** Wildcards in the sources of COPY and ADD: those of Go's path.Match. */
import { HearthError } from '../../core/errors.ts'
import { hasWildcard } from '../paths.ts'
import { escapeRange, escapeText } from './patterns.ts'

/**
 * Whether a whole path matches; `*`, `?` and `[…]` never match a slash.
 * @throws HearthError `invalid-input` for a pattern that is none.
 */
export function compileWildcards(pattern: string): (file: string) => boolean {
  let source = ''
  for (let at = 0; at < pattern.length; at += 1) {
    const rest = pattern.slice(at)
    if (rest.startsWith('*')) source += '[^/]*'
    else if (rest.startsWith('?')) source += '[^/]'
    else if (rest.startsWith('[')) {
      const range = /^\[(\^?)((?:\\.|[^\]\\])+)\]/.exec(rest)
      if (range === null) throw malformed(pattern)
      at += range[0].length - 1
      source += `(?!/)[${range[1] ?? ''}${escapeRange(range[2] ?? '')}]`
    } else if (rest.startsWith('\\')) {
      if (rest.length === 1) throw malformed(pattern)
      at += 1
      source += escapeText(pattern[at] ?? '')
    } else source += escapeText(pattern[at] ?? '')
  }
  const expression = new RegExp(`^${source}$`)
  return (file) => expression.test(file)
}

/** The folders before the first name with a wildcard, without the slash at its end: '' for the root. */
export function fixedPart(pattern: string): string {
  const names = pattern.split('/')
  const wild = names.findIndex(hasWildcard)
  return names.slice(0, wild === -1 ? names.length : wild).join('/')
}

function malformed(pattern: string): HearthError {
  return new HearthError('invalid-input', `"${pattern}" is no path with wildcards`)
}
