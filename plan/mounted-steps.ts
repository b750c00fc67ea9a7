/**
 * Steps with cache mounts, as whoever starts them knows them: by their command, not by their place in a graph.
 */
import type { Digest } from '../core/digest.ts'
import { HearthError } from '../core/errors.ts'
import { Definition, MountType, type Mount as OpMount } from '../proto/generated/buildkit/ops.ts'
import { graphOfDefinition, type Vertex } from './graph.ts'
import { type CacheMount, cacheMountsOf } from './operations.ts'

export interface MountedStep {
  readonly args: readonly string[]
  readonly folder: string
  /** It starts with the empty mounts that it asked for. */
  readonly ignoresCache: boolean
  readonly mounts: readonly StepMount[]
}

export interface StepMount extends CacheMount {
  /** Where the step sees it. */
  readonly target: string
  readonly isReadOnly: boolean
  /**
   * What BuildKit keeps apart under one id: mounts that begin as a folder with another owner or mode. Undefined for
   * one that begins with somebody's content (`from=`, `source=`): what is in it cannot be told from what was there.
   */
  readonly variant: string | undefined
}

/** A malformed definition, which BuildKit refuses, has none. */
export function mountedSteps(definition: Uint8Array): MountedStep[] {
  let vertices: readonly Vertex[]
  try {
    vertices = graphOfDefinition(Definition.decode(definition)).vertices
  } catch (error) {
    if (error instanceof HearthError) return []
    throw error
  }
  const byDigest = new Map(vertices.map((vertex) => [vertex.vertexDigest, vertex]))
  return vertices.flatMap((vertex) => {
    const { op } = vertex.op
    const cacheMounts = cacheMountsOf(vertex.op)
    if (op?.$case !== 'exec' || cacheMounts.length === 0) return []
    const mounts = op.value.mounts
      .filter(({ mountType }) => mountType === MountType.CACHE)
      .flatMap((mount, index) => {
        const cacheMount = cacheMounts[index]
        if (cacheMount === undefined) return []
        const { dest: target, readonly: isReadOnly } = mount
        return [{ ...cacheMount, target, isReadOnly, variant: variantOf(vertex, mount, byDigest) }]
      })
    const { args = [], cwd: folder = '/' } = op.value.meta ?? {}
    return [{ args, folder, ignoresCache: vertex.ignoresCache, mounts }]
  })
}

/** `uid=`, `gid=` and `mode=` are an empty folder made for the mount (dockerfile2llb/convert_runmount.go, v0.34.2). */
function variantOf(
  vertex: Vertex,
  { input, selector }: OpMount,
  byDigest: ReadonlyMap<Digest, Vertex>,
): string | undefined {
  if (input < 0) return selector === '' || selector === '/' ? '' : undefined
  const base = [...byDigest.values()].find(
    ({ vertexDigest }) => vertexDigest === vertex.op.inputs[input]?.digest,
  )
  const op = base?.op.op
  if (op?.$case !== 'file' || base === undefined || base.op.inputs.length > 0) return undefined
  const [action, ...more] = op.value.actions
  const made = action?.action
  if (made?.$case !== 'mkdir' || more.length > 0 || made.value.path !== selector) return undefined
  const { mode, owner } = made.value
  return JSON.stringify([mode, owner?.user?.user, owner?.group?.user])
}
