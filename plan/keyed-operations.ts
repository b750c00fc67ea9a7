/** All operations of a definition with what a node knows them by: its own keys, and BuildKit's names. */
import type { Digest } from '../core/digest.ts'
import { HearthError } from '../core/errors.ts'
import { Definition } from '../proto/generated/buildkit/ops.ts'
import { graphOfDefinition } from './graph.ts'
import { isStep } from './operations.ts'
import { recordDigest } from './record-digests.ts'
import { keyVertices } from './step-keys.ts'

export interface KeyedOperation {
  readonly vertexDigest: Digest
  /** Undefined for what is no step, and where content is unknown. */
  readonly stepKey: Digest | undefined
  /** Of its record in BuildKit's cache, by output; undefined for what has none. */
  recordDigest(output: number): Digest | undefined
  readonly inputs: readonly { readonly vertexDigest: string; readonly output: number }[]
}

/**
 * Inputs come before what uses them; what several definitions share counts once. A malformed definition, which
 * BuildKit refuses, has none.
 * @param contents by the id of the request, from the client's plan.
 */
export function keyedOperations(
  definitions: readonly Uint8Array[],
  contents: ReadonlyMap<string, Digest>,
): KeyedOperation[] {
  const known = new Map<string, KeyedOperation>()
  for (const definition of definitions) {
    try {
      for (const operation of operationsOf(definition, contents)) {
        if (!known.has(operation.vertexDigest)) known.set(operation.vertexDigest, operation)
      }
    } catch (error) {
      if (!(error instanceof HearthError)) throw error
    }
  }
  return [...known.values()]
}

function operationsOf(
  definition: Uint8Array,
  contents: ReadonlyMap<string, Digest>,
): KeyedOperation[] {
  const keyed = keyVertices(graphOfDefinition(Definition.decode(definition)), contents)
  return Array.from(keyed.values(), ({ vertex, key }) => ({
    vertexDigest: vertex.vertexDigest,
    stepKey: isStep(vertex) ? key : undefined,
    recordDigest: (output) => recordDigest(vertex.op, output),
    inputs: vertex.op.inputs.map(({ digest, index }) => ({ vertexDigest: digest, output: index })),
  }))
}
