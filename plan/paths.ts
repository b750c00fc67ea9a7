/** How operations select paths. Apart from what knows BuildKit's messages: the reading thread starts faster. */

/** Paths of one input. '/' is all of it. */
export interface Selector {
  readonly path: string
  /** `path` holds wildcards that are to be resolved. */
  readonly wildcard: boolean
  /** A symbolic link that `path` itself names is resolved. */
  readonly followLinks: boolean
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

/** By code units, not by the language of whoever runs it. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

/** Whether a path has a wildcard of Go's path.Match that is not escaped. */
export function hasWildcard(text: string): boolean {
  return /(?<!\\)(?:\\\\)*[*?[]/.test(text)
}
