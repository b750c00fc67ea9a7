/**
 * A fragment: the record that one build exported, in one normal form, so that the same build makes the same
 * fragment again and its digest names what it says. Times are not part of it, nor is what can never be a hit.
 *
 *     { "version": 1, "descriptors": [ … ], "config": { "layers": [ … ], "records": [ … ] }, "steps": { … } }
 *
 * `config` is BuildKit's cache config without `createdAt`, sorted; `descriptors` are those of its layers. `steps`
 * names the keys of records by step key, and is absent where none is known.
 */
import { z } from 'zod'
import { type Digest, digestOf, isDigest } from '../../../core/digest.ts'
import { formatVersions, refuseNewer } from '../../../core/format-version.ts'
import { compareText, type Graph, inTopologicalOrder, usefulPart } from './graph.ts'
import { descriptorShape, noRecord, parseJson } from './manifest.ts'
import { configShape, parseConfig, writeConfig } from './record.ts'

export interface FragmentDocument {
  readonly digest: Digest
  readonly bytes: Buffer
}

const versionShape = z.looseObject({ version: z.int().positive() })

const fragmentShape = z.looseObject({
  descriptors: z.array(descriptorShape),
  config: configShape,
  steps: z.record(z.string(), z.string()).optional(),
})

/** The version of a fragment is checked before anything else of it is looked at. */
export function writeFragment(graph: Graph): FragmentDocument {
  const records = inTopologicalOrder(usefulPart(graph).records.values())
  const { config, blobs } = writeConfig(records, (record) =>
    [...record.results.values()]
      .map(({ chain }) => ({ chain }))
      .sort((a, b) => compareText(a.chain.key, b.chain.key)),
  )
  const descriptors = blobs.sort(compareText).map((blob) => {
    const known = graph.descriptors.get(blob)
    if (known === undefined) throw noRecord(`a layer has no descriptor: ${blob}`)
    return known.descriptor
  })
  const steps = graph.steps?.size ? Object.fromEntries(graph.steps) : undefined
  const bytes = Buffer.from(
    JSON.stringify({ version: formatVersions.fragment, descriptors, config, steps }),
  )
  return { digest: digestOf(bytes), bytes }
}

/**
 * @throws HearthError `version` when a newer Hearth wrote it, `invalid-input` when it is no fragment.
 */
export function readFragment(bytes: Uint8Array, sequence: number): Graph {
  const { version } = parseJson(bytes, versionShape, 'a cache fragment')
  refuseNewer('a cache fragment', version, formatVersions.fragment)
  const { descriptors, config, steps } = parseJson(bytes, fragmentShape, 'a cache fragment')
  const byDigest = new Map(descriptors.map((each) => [each.digest, each]))
  const graph = parseConfig(config, byDigest, sequence)
  return steps === undefined ? graph : { ...graph, steps: readSteps(steps, graph) }
}

function readSteps(steps: Readonly<Record<string, string>>, { records }: Graph) {
  const known = new Map<Digest, string>()
  for (const [stepKey, recordKey] of Object.entries(steps)) {
    if (isDigest(stepKey) && records.has(recordKey)) known.set(stepKey, recordKey)
  }
  return known
}
