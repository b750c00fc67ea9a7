/**
 * Paths of the endpoint. A repository is `<capability>/<name…>`; what follows it says what is asked for.
 * Read from the end, because a name may contain any of the words that end a path.
 */

export type Route =
  | { readonly type: 'ping' }
  | { readonly type: 'blob'; readonly repository: Repository; readonly digest: string }
  | { readonly type: 'uploads'; readonly repository: Repository }
  | { readonly type: 'upload'; readonly repository: Repository; readonly id: string }
  | { readonly type: 'manifest'; readonly repository: Repository; readonly reference: string }
  | { readonly type: 'tags'; readonly repository: Repository }
  | { readonly type: 'referrers'; readonly repository: Repository; readonly digest: string }
  | { readonly type: 'unknown' }

export interface Repository {
  readonly capability: string
  readonly name: string
}

/** A path component of a repository name, as in the distribution spec. */
const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/

/** What the distribution spec advises for a name with its host; it also keeps names short enough to be keys. */
const nameLengthMax = 255

/** Long enough for every client, short enough to be cheap. */
const pathLengthMax = 2048

/** @param target path and query of a request line. */
export function parseTarget(target: string): { route: Route; query: URLSearchParams } {
  const mark = target.indexOf('?')
  const path = mark === -1 ? target : target.slice(0, mark)
  const query = new URLSearchParams(mark === -1 ? '' : target.slice(mark + 1))
  return { route: parsePath(path), query }
}

function parsePath(path: string): Route {
  const segments = path.length > pathLengthMax ? undefined : decodeSegments(path)
  if (segments === undefined || segments[0] !== '' || segments[1] !== 'v2') {
    return { type: 'unknown' }
  }
  const rest = segments.slice(2)
  if (rest.length === 0 || (rest.length === 1 && rest[0] === '')) return { type: 'ping' }
  return parseRepositoryPath(rest) ?? { type: 'unknown' }
}

function parseRepositoryPath(segments: string[]): Route | undefined {
  const last = segments.at(-1) ?? ''
  const verb = segments.at(-2)
  if (verb === 'uploads' && segments.at(-3) === 'blobs') {
    const repository = parseRepository(segments.slice(0, -3))
    if (repository === undefined) return undefined
    return last === '' ? { type: 'uploads', repository } : { type: 'upload', repository, id: last }
  }
  const repository = parseRepository(segments.slice(0, -2))
  if (repository === undefined || last === '') return undefined
  if (verb === 'blobs' && last === 'uploads') return { type: 'uploads', repository }
  if (verb === 'blobs') return { type: 'blob', repository, digest: last }
  if (verb === 'manifests') return { type: 'manifest', repository, reference: last }
  if (verb === 'tags' && last === 'list') return { type: 'tags', repository }
  if (verb === 'referrers') return { type: 'referrers', repository, digest: last }
  return undefined
}

/** @param segments capability first, then at least one component of a name. */
export function parseRepository(segments: readonly string[]): Repository | undefined {
  const [capability, ...components] = segments
  if (capability === undefined || components.length === 0) return undefined
  if (!components.every((component) => componentPattern.test(component))) return undefined
  const name = components.join('/')
  return name.length > nameLengthMax ? undefined : { capability, name }
}

function decodeSegments(path: string): string[] | undefined {
  try {
    return path.split('/').map(decodeURIComponent)
  } catch {
    // A broken percent escape names nothing.
    return undefined
  }
}
