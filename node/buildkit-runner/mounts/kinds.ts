/** Which mounts only ever grow by files that mean the same on every node: told by where a step sees them and what is in them. */
import type { MountKind } from './index.ts'

interface KnownKind {
  readonly name: string
  /** Of the mount's target or id. */
  readonly place: RegExp
  /** Any of these must be there: a path in the mount. Empty: the place says enough. */
  readonly marks: readonly RegExp[]
}

/** From the tools' own documents: all of these caches may be shared by processes that run at the same time. */
const growing: readonly KnownKind[] = [
  { name: 'go build', place: /go-build|gocache/i, marks: [/^[0-9a-f]{2}\/[0-9a-f]{64}-[ad]$/] },
  { name: 'go modules', place: /go\/pkg\/mod|gomod/i, marks: [/^cache\/download\//] },
  { name: 'npm', place: /npm/i, marks: [/^_cacache\/content-v2\//, /^content-v2\//] },
  { name: 'pnpm', place: /pnpm/i, marks: [/(^|\/)files\/[0-9a-f]{2}\//] },
  { name: 'pip', place: /pip/i, marks: [/^http(-v2)?\//, /^wheels\//] },
  { name: 'cargo registry', place: /cargo.*registry/i, marks: [/^(cache|index|src)\//] },
  { name: 'ccache', place: /ccache/i, marks: [/^[0-9a-f]\/[0-9a-f]\//, /^ccache\.conf$/] },
  { name: 'sccache', place: /sccache/i, marks: [/^[0-9a-f]\/[0-9a-f]\/[0-9a-f]\/[0-9a-f]{64}$/] },
]

/**
 * @param places how the mount is called: its id and its targets.
 * @param paths what is in it.
 */
export function kindOf(places: readonly string[], paths: Iterable<string>): MountKind {
  const possible = growing.filter(({ place }) => places.some((each) => place.test(each)))
  if (possible.length === 0) return 'newest'
  for (const path of paths) {
    if (possible.some(({ marks }) => marks.some((mark) => mark.test(path)))) return 'union'
  }
  return 'newest'
}
