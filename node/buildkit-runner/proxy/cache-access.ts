/** What one solve may read from the scope's cache and where it leaves its own: a record and two grants. */

import type { Digest } from '../../../core/digest.ts'
import { buildCertificateMs } from '../../../core/limits.ts'
import type { Scope } from '../../../core/scope.ts'
import type { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import { lackedLine, type Records, recordTag } from '../records/index.ts'
import type { Registry } from '../registry/index.ts'
import { type CacheEntry, imageCompressionOf } from './solve-edits.ts'

/** Disposal unpins the record and ends the grants. */
export interface CacheAccess extends Disposable {
  /** Undefined when the scope has no record yet. */
  readonly importFrom: CacheEntry | undefined
  readonly exportTo: CacheEntry
  /** Blobs that the record promised and that could not be delivered. */
  readonly undeliverable: ReadonlySet<Digest>
  /** Why this node could not take a blob of the export, if that happened. */
  readonly trouble: unknown
  /** Bytes moved so far. */
  readonly bytes: { read: number; kept: number; linked: number }
  /** Of what was read and was not here, by where it came from. */
  readonly bytesBrought: Readonly<Record<string, number>>
  /** Cached results that could not be delivered, or that nobody has, one line each. */
  readonly lacked: readonly string[]
  /** The record that the shadow build has exported. */
  exported(): Digest | undefined
}

/** A report is for people. */
const lackedMax = 10

export function openCacheAccess(
  deps: { registry: Registry; records: Records },
  request: SolveRequest,
  options: { scope: Scope; steps: ReadonlySet<Digest>; registryHost: string },
): CacheAccess {
  const { scope, steps, registryHost } = options
  using stack = new DisposableStack()
  const grant = { scope, lifetimeMs: buildCertificateMs }
  const record = stack.use(deps.records.compose(scope, { steps }))
  const reading =
    record.layers === 0
      ? undefined
      : stack.use(deps.registry.grant({ ...grant, right: 'read', documents: record.documents }))
  // What this build reuses is exported again as part of its record, and need not come here for that.
  const promised = (digest: Digest) => record.promised(digest)
  const writing = stack.use(deps.registry.grant({ ...grant, right: 'write', promised }))
  const held = stack.move()
  const refOf = (capability: string): string => `${registryHost}/${capability}/cache:${recordTag}`
  return {
    importFrom:
      reading === undefined
        ? undefined
        : { type: 'registry', attributes: { ref: refOf(reading.capability) } },
    exportTo: {
      type: 'registry',
      attributes: {
        ...imageCompressionOf(request),
        ref: refOf(writing.capability),
        mode: 'max',
        'oci-mediatypes': 'true',
        'image-manifest': 'true',
      },
    },
    undeliverable: reading?.undeliverable ?? new Set(),
    get bytes() {
      return {
        read: reading?.bytesRead ?? 0,
        kept: writing.bytesUploaded + writing.bytesLinked,
        linked: writing.bytesLinked,
      }
    },
    get bytesBrought() {
      return Object.fromEntries(reading?.bytesBrought ?? [])
    },
    get lacked() {
      const undeliverable = Array.from(reading?.undeliverable ?? [], (digest) =>
        lackedLine({ digest }, 'it could not be delivered'),
      )
      return [...undeliverable, ...record.lacked].slice(0, lackedMax)
    },
    get trouble() {
      return writing.trouble
    },
    exported: () => writing.pushed.get(recordTag)?.digest,
    [Symbol.dispose]: () => held.dispose(),
  }
}
