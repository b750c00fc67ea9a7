/** How the direct road names a blob: `/v1/blobs/<project>/<line>/<digest>`. */
import { type Digest, isDigest } from '../../core/digest.ts'
import { makeScope, type Scope } from '../../core/scope.ts'

export interface NamedBlob {
  readonly scope: Scope
  readonly digest: Digest
}

/** What the asker knows of it. */
export interface WantedBlob extends NamedBlob {
  /** In bytes. */
  readonly size: number
}

const prefix = '/v1/blobs/'

export function blobPath({ scope, digest }: NamedBlob): string {
  return `${prefix}${scope.project}/${scope.line}/${digest}`
}

/** Undefined when the path names no blob. */
export function parseBlobPath(path: string): NamedBlob | undefined {
  const [project, line, digest, ...rest] = path.startsWith(prefix)
    ? path.slice(prefix.length).split('/')
    : []
  if (project === undefined || line === undefined || digest === undefined) return undefined
  if (rest.length > 0 || !isDigest(digest)) return undefined
  try {
    return { scope: makeScope(project, line), digest }
  } catch {
    return undefined
  }
}

/** `bytes=FIRST-LAST`, both inclusive and both given: nothing else is asked on this road. */
export function parseRange(header: string | undefined): { start: number; end: number } | undefined {
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header ?? '')
  if (match === null) return undefined
  const start = Number(match[1])
  const end = Number(match[2]) + 1
  return start < end ? { start, end } : undefined
}
