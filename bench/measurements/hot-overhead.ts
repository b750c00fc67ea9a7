/**
 * What Hearth adds where there is nothing to gain: everything is hot in the BuildKit that builds, and buildx
 * could have gone straight to it. Both go to the same buildkitd, in turns.
 */
import { randomFillSync } from 'node:crypto'
import { open, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { busyboxImage, createTemporaryFolder, pushImage } from '../../test/harness/index.ts'
import { contextTransferSeconds } from '../context-transfer.ts'
import type { Measurement } from '../index.ts'
import { rotated } from '../rotation.ts'
import { createSamples } from '../samples.ts'
import { type Builder, type Site, startSite } from '../site.ts'
import { findWorkload } from '../workloads.ts'

const contextFiles = 8
const contextFileBytes = 64_000_000
const megabyte = 1_000_000

export const hotOverhead: Measurement = {
  name: 'hot-overhead',
  about: 'unchanged and one-line-changed build, and context throughput, against buildx direct',
  defaultRuns: 5,
  async run({ runs, say, workload: name }) {
    const workload = findWorkload(name)
    await workload.prepare(say)
    await using site = await startSite()
    await using workspace = await workload.create(site.registry.host)
    const args = [...site.pushArgs(workload.name), ...workspace.buildArgs]
    const samples = createSamples()

    const warmUp = async (builder: Builder) => {
      const { seconds } = await builder.build(args)
      say(`warming up: ${builder.who}: ${seconds.toFixed(1)} s`)
    }
    await warmUp(site.throughHearth)
    const direct = await site.direct()
    await warmUp(direct)
    const builders = [site.throughHearth, direct]

    for (let run = 0; run < runs; run += 1) {
      for (const what of ['unchanged', 'changed']) {
        for (const builder of rotated(builders, run)) {
          // Another line for each: the two share one cache.
          if (what === 'changed') await workspace.changeLine()
          const { seconds } = await builder.build(args)
          samples.add(run, { who: builder.who, what, unit: 's', value: seconds })
          say(`run ${run + 1} of ${runs}: ${what}, ${builder.who}: ${seconds.toFixed(2)} s`)
        }
      }
    }

    await using context = await createLargeContext(site)
    for (const builder of builders) await builder.build(context.buildArgs)
    for (let run = 0; run < runs; run += 1) {
      for (const builder of rotated(builders, run)) {
        await context.touch()
        const { progress } = await builder.build(context.buildArgs)
        const value = context.bytes / megabyte / contextTransferSeconds(progress)
        samples.add(run, { who: builder.who, what: 'context throughput', unit: 'MB/s', value })
        say(`run ${run + 1} of ${runs}: context, ${builder.who}: ${value.toFixed(0)} MB/s`)
      }
    }

    const [through, straight] = [site.throughHearth.who, direct.who]
    return {
      rows: samples.rows(),
      figures: {
        unchangedExtraS: samples.difference('unchanged', through, straight),
        ratios: {
          unchanged: samples.ratio('unchanged', through, straight),
          changed: samples.ratio('changed', through, straight),
          contextThroughput: samples.ratio('context throughput', through, straight),
        },
      },
    }
  },
}

interface LargeContext extends AsyncDisposable {
  readonly bytes: number
  readonly buildArgs: readonly string[]
  /** Makes every file new to BuildKit, so that all are sent again. */
  touch(): Promise<void>
}

/** Mounted, not copied, so that nothing but the transfer takes time and no large layer comes of it. */
async function createLargeContext(site: Site): Promise<LargeContext> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('context')).path
  const base = await pushImage(site.registry.host, 'busybox', '1', await busyboxImage())
  const dockerfile = path.join(folder, 'Dockerfile')
  await writeFile(dockerfile, `FROM ${base}\nRUN --mount=type=bind,target=/context true\n`)
  const files = Array.from({ length: contextFiles }, (_, index) => path.join(folder, `${index}`))
  const block = new Uint8Array(4_000_000)
  for (const file of files) {
    await using handle = await open(file, 'w')
    for (let written = 0; written < contextFileBytes; written += block.length) {
      await handle.write(randomFillSync(block))
    }
  }
  const owned = cleanUp.move()
  return {
    bytes: contextFiles * contextFileBytes,
    buildArgs: ['--progress', 'rawjson', '--output', 'type=cacheonly', folder],
    async touch() {
      const now = new Date()
      for (const file of files) await utimes(file, now, now)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
