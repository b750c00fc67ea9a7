/** The node's side: keys from the definition that passes its proxy, and the contents that came with the plan. */
import type { Digest } from '../core/digest.ts'
import type { Definition } from '../proto/generated/buildkit/ops.ts'
import { graphOfDefinition } from './graph.ts'
import { isStep } from './operations.ts'
import { keyVertices } from './step-keys.ts'

export interface DefinitionKeys {
  /** Step keys by vertex digest, as far as they are known. Steps only. */
  readonly keys: ReadonlyMap<string, Digest>
  /** Steps whose key depends on content that the plan does not tell: all that copy, without a plan. */
  readonly unknownSteps: number
}

/**
 * @param contents `Plan.contents` of the client; empty when it made no plan.
 * @throws HearthError `invalid-input` when the definition is malformed.
 */
export function keysOfDefinition(
  definition: Definition,
  contents: ReadonlyMap<string, Digest>,
): DefinitionKeys {
  const keyed = keyVertices(graphOfDefinition(definition), contents)
  const keys = new Map<string, Digest>()
  let unknownSteps = 0
  for (const [vertexDigest, { vertex, key }] of keyed) {
    if (!isStep(vertex)) continue
    if (key === undefined) unknownSteps += 1
    else keys.set(vertexDigest, key)
  }
  return { keys, unknownSteps }
}
