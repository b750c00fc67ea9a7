/**
 * A build's operations as a graph: the same whether it came as a `Definition` through a node's build proxy
 * (solver/pb/ops.proto) or as the JSON that buildx prints (convert-json.ts).
 */
import { type Digest, digestOf, isDigest } from '../core/digest.ts'
import { HearthError } from '../core/errors.ts'
import { type Definition, Op, type Source } from '../proto/generated/buildkit/ops.ts'

export interface BuildGraph {
  /** Inputs come before what uses them. */
  readonly vertices: readonly Vertex[]
  /** The vertex whose output is the result; undefined when the result is empty. */
  readonly result: Digest | undefined
}

export interface Vertex {
  /** BuildKit's own name for it in this build: the sha256 of its bytes. Changes with the session. */
  readonly vertexDigest: Digest
  readonly op: Op
  /** As the progress output names it; '' when the frontend gave no name. */
  readonly name: string
  readonly ignoresCache: boolean
  readonly source: SourceLocation | undefined
}

/** Lines of a Dockerfile, counted from 1. */
export interface SourceLocation {
  readonly file: string
  readonly firstLine: number
  readonly lastLine: number
}

/** What both forms of a graph hold; ops by vertex digest, in any order. */
export interface GraphParts {
  readonly ops: ReadonlyMap<string, Op>
  readonly metadata: Readonly<
    Record<string, { ignoreCache: boolean; description: Readonly<Record<string, string>> }>
  >
  readonly source: Source | undefined
}

/** @throws HearthError `invalid-input` when it is no graph. */
export function graphOfDefinition(definition: Definition): BuildGraph {
  const ops = new Map(definition.def.map((bytes) => [digestOf(bytes), Op.decode(bytes)] as const))
  return makeGraph({ ops, metadata: definition.metadata, source: definition.source })
}

/** @throws HearthError `invalid-input` when inputs are missing or go in a circle. */
export function makeGraph(parts: GraphParts): BuildGraph {
  const vertices: Vertex[] = []
  let result: Digest | undefined
  for (const vertexDigest of inputsFirst(parts.ops)) {
    const op = parts.ops.get(vertexDigest)
    // One entry is no operation: it names which output is the result.
    if (op?.op === undefined) {
      result = checkedDigest(op?.inputs[0]?.digest)
      continue
    }
    const metadata = parts.metadata[vertexDigest]
    vertices.push({
      vertexDigest,
      op,
      name: metadata?.description['llb.customname'] ?? '',
      ignoresCache: metadata?.ignoreCache ?? false,
      source: locationOf(parts.source, vertexDigest),
    })
  }
  return { vertices, result }
}

function inputsFirst(ops: ReadonlyMap<string, Op>): Digest[] {
  const order: Digest[] = []
  const state = new Map<string, 'open' | 'done'>()
  // Without recursion: a graph may be thousands of operations deep.
  const stack = [...ops.keys()].reverse()
  while (stack.length > 0) {
    const digest = stack.at(-1) ?? ''
    const op = ops.get(digest)
    if (op === undefined) throw malformed(`it lacks the operation ${digest}`)
    if (state.get(digest) === undefined) {
      state.set(digest, 'open')
      for (const input of op.inputs.toReversed()) {
        if (state.get(input.digest) === 'open') throw malformed('its operations go in a circle')
        if (state.get(input.digest) === undefined) stack.push(input.digest)
      }
      continue
    }
    stack.pop()
    if (state.get(digest) === 'done') continue
    state.set(digest, 'done')
    const checked = checkedDigest(digest)
    if (checked !== undefined) order.push(checked)
  }
  return order
}

function checkedDigest(text: string | undefined): Digest | undefined {
  if (text === undefined) return undefined
  if (isDigest(text)) return text
  throw malformed(`"${text.slice(0, 100)}" is no digest`)
}

function malformed(what: string): HearthError {
  return new HearthError('invalid-input', `the graph of the build is malformed: ${what}`)
}

function locationOf(source: Source | undefined, vertexDigest: string): SourceLocation | undefined {
  const location = source?.locations[vertexDigest]?.locations[0]
  const file = source?.infos[location?.sourceIndex ?? -1]?.filename
  const lines = (location?.ranges ?? []).flatMap((range) => [
    range.start?.line ?? 0,
    range.end?.line ?? 0,
  ])
  if (file === undefined || lines.length === 0) return undefined
  return { file, firstLine: Math.min(...lines), lastLine: Math.max(...lines) }
}
