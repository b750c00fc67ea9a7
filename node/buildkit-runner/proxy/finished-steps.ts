/**
 * What a build that came to no end has finished: definitions that end at its finished steps, so that their
 * cache can be exported although the build has no result.
 */
import { digestOf } from '../../../core/digest.ts'
import { Op } from '../../../proto/generated/buildkit/ops.ts'
import { encodeField, fieldBytes, fieldText } from '../../../proto/wire.ts'
import { type ResultRef, withoutIgnoreCache } from './solve-edits.ts'

interface Node {
  readonly bytes: Uint8Array
  readonly op: Op
}

/**
 * One definition per finished operation that no other finished operation is built on, and per output of it
 * that somebody uses. It names nothing but what leads to that output: what failed is not in it.
 *
 * @param definitions encoded `pb.Definition`s of one build; they may share operations.
 * @param finished vertex digests.
 * @returns with the vertex digest and the output's index as id.
 */
export function finishedResults(
  definitions: readonly Uint8Array[],
  finished: ReadonlySet<string>,
): ResultRef[] {
  const results = new Map<string, Uint8Array>()
  const covered = new Set<string>()
  const graphs = definitions.map((definition) => ({ definition, nodes: readNodes(definition) }))
  for (const { nodes } of graphs) {
    for (const [digest, { op }] of nodes) {
      if (finished.has(digest)) for (const input of op.inputs) covered.add(input.digest)
    }
  }
  for (const { definition, nodes } of graphs) {
    for (const { op } of nodes.values()) {
      for (const { digest, index } of op.inputs) {
        const input = nodes.get(digest)
        if (!finished.has(digest) || covered.has(digest) || input === undefined) continue
        // A source has no steps behind it, and its own bytes can be had where they came from.
        if (input.op.inputs.length === 0) continue
        const id = `${digest}:${index}`
        if (!results.has(id)) results.set(id, endingAt(definition, nodes, { digest, index }))
      }
    }
  }
  return [...results].map(([id, definition]) => ({ id, definition }))
}

/** The operations of a definition (field 1) by digest, the last one included, which only names the result. */
function readNodes(definition: Uint8Array): Map<string, Node> {
  return new Map(
    fieldBytes(definition, 1).map((bytes) => [digestOf(bytes), { bytes, op: Op.decode(bytes) }]),
  )
}

/** Definition: def = 1, metadata = 2 (map by digest), of what leads to this output, and nothing else. */
function endingAt(
  definition: Uint8Array,
  nodes: ReadonlyMap<string, Node>,
  end: { digest: string; index: number },
): Buffer {
  const needed = new Set<string>()
  const wanted = [end.digest]
  for (let digest = wanted.pop(); digest !== undefined; digest = wanted.pop()) {
    if (needed.has(digest)) continue
    needed.add(digest)
    wanted.push(...(nodes.get(digest)?.op.inputs ?? []).map((input) => input.digest))
  }
  const result = Op.encode(Op.fromPartial({ inputs: [end] })).finish()
  const operations = [...nodes].filter(([digest]) => needed.has(digest))
  const metadata = fieldBytes(definition, 2).filter((entry) => needed.has(fieldText(entry, 1)))
  return withoutIgnoreCache(
    Buffer.concat([
      ...operations.map(([, { bytes }]) => encodeField(1, bytes)),
      encodeField(1, result),
      ...metadata.map((entry) => encodeField(2, entry)),
    ]),
  )
}
