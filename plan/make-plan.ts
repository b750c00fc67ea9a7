/** From a build's operations and what its folders hold to its plan. */
import type { Digest } from '../core/digest.ts'
import { sourceKind } from './canonical.ts'
import type { ContentAnswer, ContentReader, FolderQuestions, HashCount } from './content/index.ts'
import { factsOf } from './facts.ts'
import type { BuildGraph } from './graph.ts'
import { cacheMountsOf, isStep, kindOf, platformOf } from './operations.ts'
import type { Doubt, PartialReason, Plan, PlannedStep } from './plan.ts'
import { type ContentRequest, contentRequests, type KeyedVertex, keyVertices } from './step-keys.ts'

/** Folders of this machine by the name that the build has for them: "context", and named contexts. */
export type Folders = Readonly<Record<string, string>>

/**
 * @param options.platform as it was asked for; '' for the builder's own.
 * @returns the plan, and what reading the folders has cost.
 * @throws HearthError `cancelled`. What is not known makes the plan partial.
 */
export async function makePlan(
  deps: { reader: ContentReader },
  graph: BuildGraph,
  options: { folders: Folders; platform: string; signal: AbortSignal },
): Promise<{ plan: Plan; count: HashCount }> {
  const requests = contentRequests(graph)
  const { answers, count } = await deps.reader.read(questionsOf(requests, options.folders), options)
  const byId = new Map(answers.map((answer) => [answer.id, answer]))
  return { plan: planOf(graph, { requests, answers: byId, platform: options.platform }), count }
}

/**
 * The plan of a build whose client made none, from what is known of contents: the node's view.
 * @param contents digests by the id of the request.
 */
export function planOfDefinition(
  graph: BuildGraph,
  contents: ReadonlyMap<string, Digest>,
  platform: string,
): Plan {
  const answers = [...contents].map(([id, digest]): [string, ContentAnswer] => [
    id,
    { type: 'read', id, digest, files: [], filesLeftOut: 0, missing: [] },
  ])
  return planOf(graph, { requests: contentRequests(graph), answers: new Map(answers), platform })
}

interface Known {
  readonly requests: readonly ContentRequest[]
  readonly answers: ReadonlyMap<string, ContentAnswer>
  readonly platform: string
}

function planOf(graph: BuildGraph, known: Known): Plan {
  const contents = Object.fromEntries(
    [...known.answers].flatMap(([id, answer]): [string, Digest][] =>
      answer.type === 'read' ? [[id, answer.digest]] : [],
    ),
  )
  const keyed = [...keyVertices(graph, new Map(Object.entries(contents))).values()]
  const doubts = new Map<KeyedVertex, Doubt>()
  for (const one of keyed) doubts.set(one, doubtOf(one, doubts))
  return {
    platform: known.platform,
    steps: keyed
      .filter(({ vertex }) => isStep(vertex))
      .map((one) => stepOf(one, doubts.get(one) ?? 'none', known.answers)),
    partial: unique([
      ...contentReasons(known),
      ...keyed.flatMap(operationReasons),
      ...platformReasons(keyed, known.platform),
    ]),
    contents,
  }
}

function stepOf(
  keyed: KeyedVertex,
  doubt: Doubt,
  answers: ReadonlyMap<string, ContentAnswer>,
): PlannedStep {
  const { vertex, key, operationDigest, recognizable } = keyed
  return {
    key,
    name: vertex.name,
    source: vertex.source,
    platform: platformOf(vertex.op),
    operationDigest,
    inputs: unique(inputKeys(keyed)),
    images: unique(imagesOf(keyed)),
    cacheMounts: cacheMountsOf(vertex.op),
    ignoresCache: vertex.ignoresCache,
    recognizable,
    doubt,
    facts: factsOf(keyed, answers),
  }
}

function inputKeys(keyed: KeyedVertex): Digest[] {
  return keyed.inputs.flatMap((input) => {
    if (!isStep(input.vertex)) return inputKeys(input)
    return input.key === undefined ? [] : [input.key]
  })
}

function imagesOf(keyed: KeyedVertex): { reference: string; digest: string | undefined }[] {
  return keyed.inputs.flatMap((input) => {
    if (isStep(input.vertex)) return []
    const { op } = input.vertex.op
    if (op?.$case !== 'source') return imagesOf(input)
    const kind = sourceKind(op.value)
    return kind.type === 'image' ? [{ reference: kind.reference, digest: kind.digest }] : []
  })
}

function doubtOf(keyed: KeyedVertex, known: ReadonlyMap<KeyedVertex, Doubt>): Doubt {
  const below = keyed.inputs.map((input) => known.get(input) ?? 'none')
  if (below.includes('source') || isUnpinned(keyed)) return 'source'
  const looksInside = keyed.inputs.some(
    (input, index) => (keyed.uses[index]?.byContent ?? false) && isMadeElsewhere(input),
  )
  return looksInside || below.includes('content') ? 'content' : 'none'
}

function isUnpinned({ vertex }: KeyedVertex): boolean {
  if (vertex.op.op?.$case !== 'source') return vertex.op.op?.$case === 'build'
  const kind = sourceKind(vertex.op.op.value)
  if (kind.type === 'local') return false
  return kind.type === 'image' ? kind.digest === undefined : !kind.pinned
}

/** Neither the client's own files nor text of the Dockerfile, both of which keys know. */
function isMadeElsewhere({ vertex, inputs }: KeyedVertex): boolean {
  if (isStep(vertex)) return true
  if (vertex.op.op?.$case !== 'source') return inputs.some(isMadeElsewhere)
  return sourceKind(vertex.op.op.value).type !== 'local'
}

function questionsOf(requests: readonly ContentRequest[], folders: Folders): FolderQuestions[] {
  const byView = new Map<
    string,
    { folder: string; request: ContentRequest; all: ContentRequest[] }
  >()
  for (const request of requests) {
    const folder = folders[request.folderName]
    if (folder === undefined) continue
    const view = JSON.stringify([folder, request.filter])
    const known = byView.get(view)
    if (known === undefined) byView.set(view, { folder, request, all: [request] })
    else known.all.push(request)
  }
  return [...byView.values()].map(({ folder, request, all }) => ({
    folder,
    filter: request.filter,
    questions: all.map(({ id, selectors }) => ({ id, selectors })),
  }))
}

function contentReasons({ requests, answers }: Known): PartialReason[] {
  return requests.flatMap(({ id, folderName }): PartialReason[] => {
    const answer = answers.get(id)
    if (answer === undefined) return [{ type: 'unknown folder', folder: folderName }]
    if (answer.type === 'unreadable') {
      return [{ type: 'unreadable folder', folder: folderName, message: answer.message }]
    }
    return answer.missing.map((path) => ({ type: 'missing path', folder: folderName, path }))
  })
}

function operationReasons(keyed: KeyedVertex): PartialReason[] {
  const { op } = keyed.vertex.op
  const { name } = keyed.vertex
  if (op?.$case === 'build') return [{ type: 'nested build', step: name }]
  if (op?.$case === 'source') {
    const kind = sourceKind(op.value)
    if (kind.type === 'local') return []
    if (kind.type === 'image') {
      return kind.digest === undefined ? [{ type: 'image not pinned', image: kind.reference }] : []
    }
    return kind.pinned ? [] : [{ type: 'remote source', source: op.value.identifier }]
  }
  const first = !keyed.recognizable && keyed.inputs.every((input) => input.recognizable)
  return first ? [{ type: 'folder as base', step: name }] : []
}

/** A frontend that plans for its own platform whatever was asked for makes keys of another build. */
function platformReasons(keyed: readonly KeyedVertex[], wanted: string): PartialReason[] {
  const planned = keyed
    .filter(({ vertex }) => ['run', 'source'].includes(kindOf(vertex.op) ?? ''))
    .map(({ vertex }) => platformOf(vertex.op))
    .filter((platform) => platform !== '')
  const [first] = planned
  if (wanted === '' || first === undefined || planned.some((one) => samePlatform(one, wanted))) {
    return []
  }
  return [{ type: 'other platform', wanted, planned: first }]
}

/** "linux/arm64/v8" is "linux/arm64". */
function samePlatform(one: string, other: string): boolean {
  return one.replace(/^(linux\/arm64)\/v8$/, '$1') === other.replace(/^(linux\/arm64)\/v8$/, '$1')
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()]
}
