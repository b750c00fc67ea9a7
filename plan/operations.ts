/**
 * The operations of a build as reports name them, read from the definition that a node's build proxy sees.
 */
import type { Digest } from '../core/digest.ts'
import { HearthError } from '../core/errors.ts'
import {
  CacheSharingOpt,
  type Definition,
  MountType,
  type Op,
} from '../proto/generated/buildkit/ops.ts'
import { graphOfDefinition, type SourceLocation, type Vertex } from './graph.ts'
import { type KeyedVertex, keyVertices } from './step-keys.ts'

export type { SourceLocation } from './graph.ts'

export type OperationKind = 'run' | 'file' | 'source' | 'build' | 'merge' | 'diff' | 'passthrough'

export interface Operation {
  /** BuildKit's own name for it in this build: the sha256 of its bytes. Changes with the session. */
  readonly vertexDigest: Digest
  /**
   * Hash over the operation and what it builds on, without session data: equal over builds, sessions and
   * clients. Blind to what the build context holds.
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

/**
 * Inputs come before what uses them. A malformed definition, which BuildKit refuses, has none.
 */
export function readOperations(definition: Definition): Operation[] {
  let keyed: Map<string, KeyedVertex>
  try {
    keyed = keyVertices(graphOfDefinition(definition), new Map())
  } catch (error) {
    if (error instanceof HearthError) return []
    throw error
  }
  return [...keyed.values()].flatMap(({ vertex, operationDigest }) => {
    const kind = kindOf(vertex.op)
    if (kind === undefined) return []
    return [
      {
        vertexDigest: vertex.vertexDigest,
        operationDigest,
        kind,
        name: vertex.name,
        isStep: isStep(vertex),
        platform: platformOf(vertex.op),
        source: vertex.source,
        ignoresCache: vertex.ignoresCache,
        cacheMounts: cacheMountsOf(vertex.op).map(({ id }) => id),
      },
    ]
  })
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

export function kindOf(op: Op): OperationKind | undefined {
  return op.op === undefined ? undefined : kinds[op.op.$case]
}

/** RUN, COPY, ADD or WORKDIR. */
export function isStep({ op, name }: Vertex): boolean {
  const kind = kindOf(op)
  return (kind === 'run' || kind === 'file') && !name.startsWith('[internal]')
}

export function platformOf(op: Op): string {
  if (op.platform === undefined) return ''
  const { os, architecture, variant } = op.platform
  return [os, architecture, variant].filter((part) => part !== '').join('/')
}

export interface CacheMount {
  readonly id: string
  readonly sharing: 'shared' | 'private' | 'locked'
}

const sharings: Record<CacheSharingOpt, CacheMount['sharing']> = {
  [CacheSharingOpt.SHARED]: 'shared',
  [CacheSharingOpt.PRIVATE]: 'private',
  [CacheSharingOpt.LOCKED]: 'locked',
}

export function cacheMountsOf(op: Op): CacheMount[] {
  if (op.op?.$case !== 'exec') return []
  return op.op.value.mounts
    .filter((mount) => mount.mountType === MountType.CACHE)
    .map((mount) => ({
      id: mount.cacheOpt?.id ?? mount.dest,
      sharing: sharings[mount.cacheOpt?.sharing ?? CacheSharingOpt.SHARED],
    }))
}
