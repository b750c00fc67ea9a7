/**
 * The operations of a build, read from BuildKit's build graph (LLB `Definition`, solver/pb/ops.proto).
 * The same reading serves the node, which sees the definition pass its build proxy, and anybody who asks
 * a frontend for it.
 */
import { type Digest, digestOf } from '../core/digest.ts'
import { type Definition, MountType, Op } from '../proto/generated/buildkit/ops.ts'
import { editFields, encodeField, fieldText } from '../proto/wire.ts'

export type OperationKind = 'run' | 'file' | 'source' | 'build' | 'merge' | 'diff' | 'passthrough'

export interface Operation {
  /** BuildKit's own name for it in this build: the sha256 of its bytes. Changes with the session. */
  readonly vertexDigest: Digest
  /**
   * Hash over the operation and its inputs without session data: equal over builds, sessions and clients.
   * Blind to what the build context holds.
   */
  readonly operationDigest: Digest
  readonly kind: OperationKind
  /** As the progress output names it; '' when the frontend gave no name. */
  readonly name: string
  /** RUN, COPY, ADD or WORKDIR: what counts in "steps reused". */
  readonly isStep: boolean
  /** "os/arch[/variant]", '' when the operation has none. */
  readonly platform: string
  readonly source: SourceLocation | undefined
  readonly ignoresCache: boolean
  /** Ids of the cache mounts that a RUN uses. */
  readonly cacheMounts: readonly string[]
}

/** Lines of a Dockerfile, counted from 1. */
export interface SourceLocation {
  readonly file: string
  readonly firstLine: number
  readonly lastLine: number
}

/** In the order of the definition: inputs come before what uses them. */
export function readOperations(definition: Definition): Operation[] {
  const operationDigests = new Map<string, Digest>()
  const operations: Operation[] = []
  for (const bytes of definition.def) {
    const op = Op.decode(bytes)
    const vertexDigest = digestOf(bytes)
    const operationDigest = digestOf(withoutSession(bytes, operationDigests))
    operationDigests.set(vertexDigest, operationDigest)
    const kind = kindOf(op)
    // The last entry of a definition only names which output is the result.
    if (kind === undefined) continue
    const metadata = definition.metadata[vertexDigest]
    const name = metadata?.description['llb.customname'] ?? ''
    operations.push({
      vertexDigest,
      operationDigest,
      kind,
      name,
      isStep: (kind === 'run' || kind === 'file') && !name.startsWith('[internal]'),
      platform: platformOf(op),
      source: locationOf(definition, vertexDigest),
      ignoresCache: metadata?.ignoreCache ?? false,
      cacheMounts: cacheMountsOf(op),
    })
  }
  return operations
}

const kinds: Record<NonNullable<Op['op']>['$case'], OperationKind> = {
  exec: 'run',
  file: 'file',
  source: 'source',
  build: 'build',
  merge: 'merge',
  diff: 'diff',
  passthrough: 'passthrough',
}

function kindOf(op: Op): OperationKind | undefined {
  return op.op === undefined ? undefined : kinds[op.op.$case]
}

function platformOf(op: Op): string {
  if (op.platform === undefined) return ''
  const { os, architecture, variant } = op.platform
  return [os, architecture, variant].filter((part) => part !== '').join('/')
}

function cacheMountsOf(op: Op): string[] {
  if (op.op?.$case !== 'exec') return []
  return op.op.value.mounts
    .filter((mount) => mount.mountType === MountType.CACHE)
    .map((mount) => mount.cacheOpt?.id ?? mount.dest)
}

function locationOf(definition: Definition, vertexDigest: string): SourceLocation | undefined {
  const location = definition.source?.locations[vertexDigest]?.locations[0]
  const file = definition.source?.infos[location?.sourceIndex ?? -1]?.filename
  const lines = (location?.ranges ?? []).flatMap((range) => [
    range.start?.line ?? 0,
    range.end?.line ?? 0,
  ])
  if (file === undefined || lines.length === 0) return undefined
  return { file, firstLine: Math.min(...lines), lastLine: Math.max(...lines) }
}

/** Attributes that BuildKit's client puts into local sources and that differ from session to session. */
const sessionAttributes = new Set(['local.session', 'local.unique'])

function withoutSession(op: Uint8Array, known: ReadonlyMap<string, Digest>): Buffer {
  return editFields(op, (field) => {
    if (field.bytes === undefined) return field.raw
    // Op.inputs[]: { digest = 1, index = 2 }
    if (field.number === 1) {
      const input = editFields(field.bytes, (part) => {
        if (part.number !== 1 || part.bytes === undefined) return part.raw
        const digest = Buffer.from(part.bytes).toString()
        return encodeField(1, known.get(digest) ?? digest)
      })
      return encodeField(1, input)
    }
    // Op.source: { identifier = 1, attrs = 2 (map) }
    if (field.number === 3) {
      const source = editFields(field.bytes, (part) =>
        part.number === 2 &&
        part.bytes !== undefined &&
        sessionAttributes.has(fieldText(part.bytes, 1))
          ? undefined
          : part.raw,
      )
      return encodeField(3, source)
    }
    return field.raw
  })
}
