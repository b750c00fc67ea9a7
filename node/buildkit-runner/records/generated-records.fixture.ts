/** For property tests: cache configs as BuildKit writes them, small and full of coincidences. */
import fc from 'fast-check'
import { type Digest, digestOf } from '../../../core/digest.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { Descriptor, Graph, Label } from './graph.ts'
import { mergeGraphs, relabelled } from './merge.ts'
import { type CacheConfig, parseConfig } from './record.ts'

/** Few blobs and few digests, so that graphs overlap. */
const blobs = Array.from({ length: 8 }, (_, each) => digestOf(`blob ${each}`))
const steps = Array.from({ length: 6 }, (_, each) => digestOf(`step ${each}`))

export function descriptorOf(digest: Digest): Descriptor {
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest,
    size: sizeOf(digest),
    annotations: { 'containerd.io/uncompressed': digestOf(`tar of ${digest}`) },
  }
}

export function sizeOf(digest: Digest): number {
  return Number.parseInt(digest.slice(-4), 16)
}

export const descriptors: ReadonlyMap<Digest, Descriptor> = new Map(
  blobs.map((digest) => [digest, descriptorOf(digest)]),
)

const layers = fc
  .array(fc.record({ blob: fc.constantFrom(...blobs), below: fc.nat(20) }), {
    minLength: 1,
    maxLength: 10,
  })
  .map((all) =>
    all.map(({ blob, below }, position) => ({
      blob,
      // A parent further down, or none.
      parent: position === 0 ? -1 : (below % (position + 1)) - 1,
    })),
  )

const record = fc.record({
  digest: fc.constantFrom(...steps),
  inputs: fc.array(
    fc.array(fc.record({ link: fc.nat(30), selector: fc.constantFrom(undefined, 'src', 'bin') }), {
      minLength: 1,
      maxLength: 2,
    }),
    { maxLength: 2 },
  ),
  layers: fc.array(fc.record({ layer: fc.nat(30), createdAt: times() }), { maxLength: 2 }),
})

function times() {
  return fc.integer({ min: 0, max: 1e12 }).map((ms) => new Date(ms).toISOString())
}

export const configs: fc.Arbitrary<CacheConfig> = fc
  .tuple(layers, fc.array(record, { maxLength: 12 }))
  .map(([someLayers, records]) => ({
    layers: someLayers,
    records: records.map((each, position) => ({
      digest: each.digest,
      layers: each.layers.map((result) => ({ ...result, layer: result.layer % someLayers.length })),
      // Only what comes before it, so that there is no loop.
      ...(position === 0
        ? {}
        : {
            inputs: each.inputs.map((alternatives) =>
              alternatives.map((input) => ({ ...input, link: input.link % position })),
            ),
          }),
    })),
  }))

/** The same config with its records and layers in another order. */
export function shuffled(config: CacheConfig, order: readonly number[]): CacheConfig {
  const layersOf = config.layers ?? []
  const recordsOf = config.records ?? []
  const layerTo = permutation(layersOf.length, order)
  const recordTo = permutation(recordsOf.length, order)
  const place = <T>(items: readonly T[], to: readonly number[]): T[] => {
    const placed = [...items]
    items.forEach((item, position) => {
      placed[to[position] ?? 0] = item
    })
    return placed
  }
  return {
    layers: place(
      layersOf.map((layer) => ({
        ...layer,
        parent: layer.parent === -1 ? -1 : layerTo[layer.parent ?? 0],
      })),
      layerTo,
    ),
    records: place(
      recordsOf.map((each) => ({
        ...each,
        layers: each.layers?.map((result) => ({ ...result, layer: layerTo[result.layer ?? 0] })),
        inputs: each.inputs?.map((alternatives) =>
          alternatives?.map((input) => ({ ...input, link: recordTo[input.link ?? 0] })),
        ),
      })),
      recordTo,
    ),
  }
}

function permutation(length: number, order: readonly number[]): number[] {
  const positions = Array.from({ length }, (_, position) => position)
  const weight = (position: number) => order[position % Math.max(order.length, 1)] ?? 0
  return positions.sort((a, b) => weight(a) - weight(b) || b - a)
}

/** As fragments of several nodes come: some of them made at the same time, not knowing of each other. */
export const labels: fc.Arbitrary<Label> = fc.record({
  sequence: fc.integer({ min: 1, max: 4 }),
  lineage: fc.constantFrom('a', 'b', 'c', 'd'),
})

export const graphs: fc.Arbitrary<Graph> = fc
  .tuple(configs, labels)
  .map(([config, label]) => relabelled(parseConfig(config, descriptors, 0), label))

/** The union of a few builds, seen one after the other. */
export const unions: fc.Arbitrary<Graph> = fc
  .array(configs, { maxLength: 4 })
  .map((all) =>
    mergeGraphs(
      ...all.map((config, position) =>
        relabelled(parseConfig(config, descriptors, 0), labelOf(position + 1)),
      ),
    ),
  )

export function labelOf(sequence: number): Label {
  return { sequence, lineage: `build ${sequence}` }
}

/** Some of the blobs, as a store would hold them. */
export const heldBlobs: fc.Arbitrary<ReadonlyMap<Digest, BlobInfo>> = fc
  .subarray(blobs)
  .map((some) => new Map(some.map((digest) => [digest, { digest, size: sizeOf(digest) }])))

export const allBlobs: ReadonlyMap<Digest, BlobInfo> = new Map(
  blobs.map((digest) => [digest, { digest, size: sizeOf(digest) }]),
)

/** All that a graph says, in one order, for comparison. */
export function textOf(graph: Graph): string {
  const records = [...graph.records.values()]
    .map(({ results, ...rest }) => ({
      ...rest,
      results: [...results].map(([key, { sequence, lineage }]) => [key, sequence, lineage]).sort(),
    }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
  return JSON.stringify([records, [...graph.descriptors].sort()])
}
