/**
 * What the client waits because its cache is exported, by size of the new layers. Every contestant makes the
 * same kind of layer in the same buildkitd and pushes its image to the same registry; they differ in what
 * happens to the cache.
 */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import {
  busyboxImage,
  createTemporaryFolder,
  pushImage,
  runTimed,
  startS3,
} from '../../test/harness/index.ts'
import type { Measurement } from '../index.ts'
import { rotated } from '../rotation.ts'
import { createSamples } from '../samples.ts'
import { startSite } from '../site.ts'

const layerMegabytes = [10, 100, 800]
const megabyte = 1_000_000
/**
 * One line changed behind the largest layer, built the moment that layer's build has ended: a step that reads
 * all of the layer, as a compiler or a test would.
 */
const nextBuild = 'next build'

const dockerfile = (base: string) => `FROM ${base}
ARG BYTES
ARG ATTEMPT
RUN head -c "$BYTES" /dev/urandom > /layer-of-$ATTEMPT
COPY source /source
RUN md5sum /source /layer-of-$ATTEMPT > /sums
`

export const exportWait: Measurement = {
  name: 'export-wait',
  about:
    "what the client waits for cache export, against BuildKit's registry and S3 export and none",
  defaultRuns: 3,
  async run({ runs, say }) {
    const samples = createSamples()
    // A site for each run: layers of one run would fill the disk of the next.
    for (let run = 0; run < runs; run += 1) {
      await measureOnce(run, samples, (line) => say(`run ${run + 1} of ${runs}: ${line}`))
    }
    const largest = sizeName(Math.max(...layerMegabytes))
    return {
      rows: samples.rows(),
      figures: {
        ratios: {
          overNoExport: samples.ratio(largest, 'hearth', 'no export'),
          overRegistryExport: samples.ratio(largest, 'hearth', 'registry export'),
          overS3Export: samples.ratio(largest, 'hearth', 's3 export'),
          nextOverNoExport: samples.ratio(nextBuild, 'hearth', 'no export'),
        },
      },
    }
  },
}

async function measureOnce(
  run: number,
  samples: ReturnType<typeof createSamples>,
  say: (line: string) => void,
): Promise<void> {
  await using s3 = await startS3()
  await using site = await startSite({ reach: [new URL(s3.endpoint).host] })
  await using folder = await createTemporaryFolder('export')
  const base = await pushImage(site.registry.host, 'busybox', '1', await busyboxImage())
  const write = (name: string, content: string) => writeFile(path.join(folder.path, name), content)
  await write('Dockerfile', dockerfile(base))
  await write('source', 'first')

  const argsOf = (attempt: string, bytes: number) => [
    ...['--build-arg', `BYTES=${bytes}`, '--build-arg', `ATTEMPT=${attempt}`],
    ...site.pushArgs('layer', attempt),
    folder.path,
  ]
  await site.throughHearth.build(argsOf('warm-up', 1000))
  const direct = await site.direct()
  await direct.build(argsOf('warm-up-direct', 1000))

  const registryCache = `type=registry,ref=${site.registry.host}/cache:layer,mode=max`
  const s3Cache = [
    ...['type=s3', 'mode=max', 'name=layer', `region=${s3.region}`, `bucket=${s3.bucket}`],
    ...[`endpoint_url=${s3.endpoint}`, 'use_path_style=true'],
    ...[`access_key_id=${s3.accessKeyId}`, `secret_access_key=${s3.secretAccessKey}`],
  ].join(',')
  const contestants = [
    { who: 'hearth', builder: site.throughHearth, extra: [] },
    { who: 'no export', builder: direct, extra: [] },
    { who: 'registry export', builder: direct, extra: ['--cache-to', registryCache] },
    { who: 's3 export', builder: direct, extra: ['--cache-to', s3Cache] },
  ]
  const largest = Math.max(...layerMegabytes)
  for (const megabytes of layerMegabytes) {
    for (const { who, builder, extra } of rotated(contestants, run)) {
      const attempt = `${megabytes}-${who.replaceAll(' ', '-')}`
      const args = [...extra, ...argsOf(attempt, megabytes * megabyte)]
      const add = (what: string, value: number): void => {
        samples.add(run, { who, what, unit: 's', value })
        say(`${what}, ${who}: ${value.toFixed(2)} s`)
      }
      // What the build before has left to write is not this one's to wait for.
      await runTimed('sync', [])
      add(sizeName(megabytes), (await builder.buildAtOnce(args)).seconds)
      if (megabytes === largest) {
        await write('source', attempt)
        add(nextBuild, (await builder.buildAtOnce(args)).seconds)
      }
      // Nothing of it goes on while the next contestant builds.
      await builder.build(args)
    }
  }
}

function sizeName(megabytes: number): string {
  return `${megabytes} MB`
}
