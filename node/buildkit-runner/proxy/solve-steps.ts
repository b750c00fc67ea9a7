/** The steps of one solve as the rest of the mesh knows them: by keys, with what was expected of them. */
import type { Digest } from '../../../core/digest.ts'
import { type KeyedOperation, keyedOperations } from '../../../plan/index.ts'
import type { ExpectedSteps } from './index.ts'

export interface SolveSteps {
  /** Inputs come before what uses them. */
  operations(): readonly KeyedOperation[]
  readonly expected: ExpectedSteps
}

const nothingExpected: ExpectedSteps = { contents: new Map(), predictions: new Map() }

/**
 * @param deps.definitions all that the solve has loaded so far: asked for anew each time, and worked out once.
 * @param deps.expected undefined when nobody has said anything.
 */
export function createSolveSteps(deps: {
  definitions: () => readonly Uint8Array[]
  expected: ExpectedSteps | undefined
}): SolveSteps {
  const { definitions, expected = nothingExpected } = deps
  let known: { count: number; operations: readonly KeyedOperation[] } | undefined
  return {
    operations() {
      const all = definitions()
      if (known?.count !== all.length) {
        known = { count: all.length, operations: keyedOperations(all, expected.contents) }
      }
      return known.operations
    },
    expected,
  }
}

/** By vertex digest, where there is one. */
export function keysOf(operations: readonly KeyedOperation[]): Map<string, Digest> {
  return new Map(
    operations.flatMap(({ vertexDigest, stepKey }) =>
      stepKey === undefined ? [] : [[vertexDigest, stepKey]],
    ),
  )
}
