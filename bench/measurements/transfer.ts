/**
 * Blobs from one process to another on this machine, to a file. Hearth's are verified; the others' are not even
 * hashed. Small blobs are asked for side by side, as a build does; in `four sources` each is held to 50 MB/s.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import pino from 'pino'
import type { Digest } from '../../core/digest.ts'
import { makeScope } from '../../core/scope.ts'
import { type BlobSource, createExchange, type Exchange } from '../../mesh/exchange/index.ts'
import { createTemporaryFolder, pushBlob, startUpstreamRegistry } from '../../test/harness/index.ts'
import { createNodeIdentities } from '../../test/harness/node-identities.ts'
import type { Measurement } from '../index.ts'
import { rotated } from '../rotation.ts'
import { createSamples, type Samples } from '../samples.ts'
import { rounded } from '../statistics.ts'
import { type Giver, startGiver } from '../transfer/start-giver.ts'
import { takeByCurl, takeByHttps, takeByTcp } from '../transfer/takers.ts'

const megabyte = 1_000_000
const largeBytes = 1024 ** 3
const cappedBytes = 400 * megabyte
const cappedBytesPerS = 50 * megabyte
const small = { count: 1_000, bytes: 16 * 1024, atOnce: 16 }
const taker = 'taker'
const scope = makeScope('bench', 'main')
const hearth = 'hearth, direct road'

interface Blob {
  digest: Digest
  name: string
  size: number
}

/** One way to bring a blob into a file. */
type Take = (blob: Blob, file: string) => Promise<unknown>

export const transfer: Measurement = {
  name: 'transfer',
  about: 'a large blob, many small ones, one and four sources, against https, curl and raw TCP',
  defaultRuns: 5,
  async run({ runs, say }) {
    await using stack = new AsyncDisposableStack()
    const folder = stack.use(await createTemporaryFolder('transfer')).path
    const identities = stack.use(await createNodeIdentities())
    const held = path.join(folder, 'held')
    await mkdir(held)
    say('making the blobs')
    const large = await makeBlob(held, largeBytes)
    const capped = await makeBlob(held, cappedBytes)
    const smalls: Blob[] = []
    for (let count = 0; count < small.count; count += 1) {
      smalls.push(await makeBlob(held, small.bytes))
    }
    const registry = stack.use(await startUpstreamRegistry())
    await pushBlob(registry.host, 'bench', { ...large, file: path.join(held, large.name) })

    const give = async (nodeId: string, uploadBytesPerS?: number): Promise<Giver> =>
      stack.use(
        await startGiver({
          ...{ folder: held, identity: await identities.issue(nodeId), member: taker },
          ...(uploadBytesPerS === undefined ? {} : { uploadBytesPerS }),
        }),
      )
    const giver = await give('giver')
    const slow: BlobSource[] = []
    for (const nodeId of ['a', 'b', 'c', 'd']) {
      slow.push(sourceOf(nodeId, await give(nodeId, cappedBytesPerS)))
    }
    const exchange = stack.use(
      await createExchange(
        { blobs: { find: () => undefined }, log: pino({ level: 'silent' }) },
        { host: '127.0.0.1', port: 0, identity: await identities.issue(taker) },
      ),
    )
    const takeFrom =
      (sources: readonly BlobSource[]): Take =>
      (blob, file) =>
        takeByHearth(exchange, sources, blob, file)
    const direct = takeFrom([sourceOf('giver', giver)])
    const { ports } = giver
    const web: Take = (blob, file) => takeByHttps(ports.https, blob.name, file)
    const ways: [string, Take][] = [
      [hearth, direct],
      ['node:https', web],
      ['raw TCP', (blob, file) => takeByTcp(ports.tcp, blob.name, file)],
      [
        'curl, docker-registry',
        (blob, file) => takeByCurl(`${registry.url}/v2/bench/blobs/${blob.digest}`, file),
      ],
    ]

    const samples = createSamples()
    const loop = monitorEventLoopDelay({ resolution: 5 })
    const time = measureInto(samples, path.join(folder, 'taken'))
    for (let run = 0; run < runs; run += 1) {
      say(`run ${run + 1} of ${runs}`)
      for (const [who, take] of rotated(ways, run)) {
        if (who === hearth) loop.enable()
        await time(run, { who, what: 'one large blob' }, [large], take)
        loop.disable()
      }
      for (const [who, take] of rotated(
        [
          [hearth, direct],
          ['node:https', web],
        ] as const,
        run,
      )) {
        await time(run, { who, what: 'many small blobs' }, smalls, take)
      }
      const first = slow.slice(0, 1)
      for (const [who, sources] of rotated(
        [
          ['one source', first],
          ['four sources', slow],
        ] as const,
        run,
      )) {
        await time(run, { who, what: 'capped sources' }, [capped], takeFrom(sources))
      }
    }
    const over = (what: string, who: string, peer: string) => samples.ratio(what, who, peer)
    return {
      rows: samples.rows(),
      figures: {
        ratios: {
          nodeHttps: over('one large blob', hearth, 'node:https'),
          fourSources: over('capped sources', 'four sources', 'one source'),
          registryCurl: over('one large blob', hearth, 'curl, docker-registry'),
          rawTcp: over('one large blob', hearth, 'raw TCP'),
          smallBlobs: over('many small blobs', hearth, 'node:https'),
        },
        loopDelayP99Ms: rounded(loop.percentile(99) / 1e6),
      },
    }
  },
}

function sourceOf(nodeId: string, { ports }: Giver): BlobSource {
  return { type: 'node', nodeId, host: '127.0.0.1', port: ports.road }
}

async function takeByHearth(
  exchange: Exchange,
  sources: readonly BlobSource[],
  { digest, size }: Blob,
  file: string,
): Promise<void> {
  const signal = AbortSignal.timeout(120_000)
  const outcome = await exchange.fetch({ scope, digest, size, file, sources, signal })
  if (outcome.type === 'failed') throw new Error(JSON.stringify(outcome.faults))
}

/** Takes blobs, several at once where there are several, and notes the speed of all together. */
function measureInto(samples: Samples, folder: string) {
  return async (
    run: number,
    { who, what }: { who: string; what: string },
    blobs: readonly Blob[],
    take: Take,
  ): Promise<void> => {
    await mkdir(folder)
    const waiting = blobs.entries()
    const startedAtMs = performance.now()
    const lanes = Array.from({ length: Math.min(small.atOnce, blobs.length) }, async () => {
      for (const [index, blob] of waiting) await take(blob, path.join(folder, `${index}`))
    })
    await Promise.all(lanes)
    const seconds = (performance.now() - startedAtMs) / 1000
    const bytes = blobs.reduce((sum, { size }) => sum + size, 0)
    samples.add(run, { who, what, unit: 'MB/s', value: bytes / megabyte / seconds })
    await rm(folder, { recursive: true })
  }
}

async function makeBlob(folder: string, size: number): Promise<Blob> {
  const making = path.join(folder, 'making')
  const file = await open(making, 'w')
  const hash = createHash('sha256')
  const blockBytes = 16 * 1024 * 1024
  for (let position = 0; position < size; position += blockBytes) {
    const block = randomBytes(Math.min(blockBytes, size - position))
    hash.update(block)
    await file.write(block)
  }
  await file.close()
  const name = hash.digest('hex')
  await rename(making, path.join(folder, name))
  return { digest: `sha256:${name}`, name, size }
}
