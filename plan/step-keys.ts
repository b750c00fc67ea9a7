/**
 * Step keys: Merkle hashes over canonical operations. Where an operation looks at a folder of the client, the
 * content of the paths it selects stands for the folder, so that a changed source file leaves the steps before
 * its copy alone. Equal keys mean that BuildKit takes the one's result for the other's.
 */
import { type Digest, digestOf } from '../core/digest.ts'
import type { Op, SourceOp } from '../proto/generated/buildkit/ops.ts'
import { canonicalForm, type Json, sourceKind } from './canonical.ts'
import type { SourceFilter } from './content/index.ts'
import type { BuildGraph, Vertex } from './graph.ts'
import type { Selector } from './paths.ts'
import { type InputUse, inputUses } from './selectors.ts'

/** Paths of one of the client's folders that an operation looks at. */
export interface ContentRequest {
  /** Hash over the rest: what a plan's contents are kept by. */
  readonly id: string
  /** The folder's name in the build: "context", or a named context's. */
  readonly folderName: string
  readonly filter: SourceFilter
  readonly selectors: readonly Selector[]
}

export interface KeyedVertex {
  readonly vertex: Vertex
  /** Undefined while the content of a folder is unknown that it or what it builds on looks at. */
  readonly key: Digest | undefined
  /** The same without content: of the operation and what it builds on. */
  readonly operationDigest: Digest
  readonly uses: readonly InputUse[]
  /** In the order of the operation's inputs. */
  readonly inputs: readonly KeyedVertex[]
  readonly contents: readonly ContentRequest[]
  /**
   * False: BuildKit never takes it or what builds on it from a cache, because it stands on a folder of the
   * client itself, and that is another one in each session.
   */
  readonly recognizable: boolean
}

/** Raised when keys are made in another way: old and new ones must never meet. */
const keyForm = 1

/** What must be read before all keys of the graph can be made. */
export function contentRequests(graph: BuildGraph): ContentRequest[] {
  const requests = new Map<string, ContentRequest>()
  for (const keyed of keyVertices(graph, new Map()).values()) {
    for (const request of keyed.contents) requests.set(request.id, request)
  }
  return [...requests.values()]
}

/**
 * @param contents digests by the id of the request.
 * @returns by vertex digest, inputs before what uses them.
 */
export function keyVertices(
  graph: BuildGraph,
  contents: ReadonlyMap<string, Digest>,
): Map<string, KeyedVertex> {
  const known = new Map<string, KeyedVertex>()
  for (const vertex of graph.vertices) {
    known.set(vertex.vertexDigest, keyVertex(vertex, known, contents))
  }
  return known
}

function keyVertex(
  vertex: Vertex,
  known: ReadonlyMap<string, KeyedVertex>,
  contents: ReadonlyMap<string, Digest>,
): KeyedVertex {
  const { op } = vertex
  const form = canonicalForm(op)
  const uses = inputUses(op)
  const inputs = op.inputs.map(({ digest }) => {
    const input = known.get(digest)
    if (input === undefined) throw new Error(`${digest} stands after what uses it`)
    return input
  })
  const requests: ContentRequest[] = []
  const dependencies: Json[] = []
  let complete = true
  let recognizable = true
  inputs.forEach((input, index) => {
    const use = uses[index] ?? { selectors: [], byContent: false }
    const request = localRequest(input.vertex.op, use)
    const output = op.inputs[index]?.index ?? 0
    if (request !== undefined) {
      requests.push(request)
      const content = contents.get(request.id)
      complete &&= content !== undefined
      recognizable &&= use.byContent
      dependencies.push(['content', content ?? ''])
      return
    }
    complete &&= input.key !== undefined
    recognizable &&= input.recognizable
    dependencies.push(['input', input.key ?? '', output, use.selectors.map(selectorForm)])
  })
  return {
    vertex,
    key: complete ? digestOf(JSON.stringify([keyForm, form, dependencies])) : undefined,
    operationDigest: digestOf(
      JSON.stringify([
        keyForm,
        form,
        inputs.map((input, index) => [
          input.operationDigest,
          op.inputs[index]?.index ?? 0,
          uses[index]?.selectors.map(selectorForm) ?? [],
        ]),
      ]),
    ),
    uses,
    inputs,
    contents: requests,
    recognizable,
  }
}

/** Undefined when the input is none of the client's folders. */
function localRequest(input: Op, use: InputUse): ContentRequest | undefined {
  if (input.op?.$case !== 'source') return undefined
  const source = input.op.value
  const kind = sourceKind(source)
  if (kind.type !== 'local') return undefined
  const filter = {
    include: listAttribute(source, 'local.includepattern'),
    exclude: listAttribute(source, 'local.excludepatterns'),
    follow: listAttribute(source, 'local.followpaths'),
  }
  // Without selected paths all of it counts.
  const selectors = use.byContent && use.selectors.length > 0 ? use.selectors : [wholeFolder]
  const what = { folderName: kind.name, filter, selectors }
  return { id: digestOf(JSON.stringify(what)), ...what }
}

const wholeFolder: Selector = {
  path: '/',
  wildcard: false,
  followLinks: false,
  include: [],
  exclude: [],
}

/** BuildKit writes lists into attributes as JSON. */
function listAttribute(source: SourceOp, name: string): string[] {
  const text = source.attrs[name]
  if (text === undefined) return []
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) ? list.filter((one) => typeof one === 'string') : []
  } catch {
    return []
  }
}

function selectorForm({ path, wildcard, followLinks, include, exclude }: Selector): Json {
  return [path, wildcard, followLinks, include, exclude]
}
