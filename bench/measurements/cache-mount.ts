/**
 * One changed line that a step with a cache mount depends on, where the project was never built: what the mount is
 * worth that came along, against BuildKit's own caches, which leave it behind, and against a node that has it.
 */
import { startS3, startUpstreamRegistry } from '../../test/harness/index.ts'
import { startHearthNodes } from '../fresh-node/hearth-nodes.ts'
import { fillNativeCaches, type NativeCache } from '../fresh-node/native-caches.ts'
import type { Figures, Measurement } from '../index.ts'
import { rotated } from '../rotation.ts'
import { createSamples, type Samples } from '../samples.ts'
import { findWorkload, type Workload } from '../workloads.ts'

/** What people could have instead. */
const natives: readonly NativeCache[] = ['registry cache', 's3 cache']

/** By what figures call it; each with a line that its mounted step depends on. */
const projects: readonly { name: string; workload: string }[] = [
  { name: 'go', workload: 'go-service' },
]

export const cacheMount: Measurement = {
  name: 'cache-mount',
  about:
    "one changed line on a node that has never built the project, against BuildKit's own caches",
  defaultRuns: 3,
  async run({ runs, say, workload: chosen }) {
    const samples = createSamples()
    const ratios: Record<string, number> = {}
    const asked = projects.filter(({ workload }) => chosen === undefined || workload === chosen)
    for (const { name, workload } of asked) {
      const found = findWorkload(workload)
      await found.prepare(say)
      for (let run = 0; run < runs; run += 1) {
        const sayOfRun = (line: string) => say(`${name}, run ${run + 1} of ${runs}: ${line}`)
        await measureOnce(run, { name, workload: found }, samples, sayOfRun)
      }
      ratios[`${name}FreshOverBestNative`] = samples.ratio(name, 'hearth, fresh', 'best native')
      ratios[`${name}FreshOverHot`] = samples.ratio(name, 'hearth, fresh', 'hearth, hot')
    }
    const figures: Figures = { ratios }
    return { rows: samples.rows(), figures }
  },
}

async function measureOnce(
  run: number,
  { name, workload }: { name: string; workload: Workload },
  samples: Samples,
  say: (line: string) => void,
): Promise<void> {
  await using registry = await startUpstreamRegistry()
  await using s3 = await startS3()
  await using workspace = await workload.create(registry.host)
  const argsOf = (who: string): string[] => {
    const image = `${registry.host}/${who.replaceAll(/\W+/g, '-')}/${workload.name}:dev`
    return ['--output', `type=image,name=${image},push=true`, ...workspace.buildArgs]
  }
  await using native = await fillNativeCaches({
    registryHost: registry.host,
    s3,
    caches: natives,
    argsOf,
    say,
  })
  await using hearth = await startHearthNodes(argsOf('hearth'), { reach: [registry.host], say })
  await hearth.mountsTold()
  const note = (who: string, value: number): number => {
    samples.add(run, { who, what: name, unit: 's', value })
    say(`${who}: ${value.toFixed(2)} s`)
    return value
  }
  await workspace.changeLine()
  const nativeS: number[] = []
  const contestants = [
    async () => void note('hearth, fresh', await hearth.buildFresh(argsOf('hearth'))),
    ...natives.map((cache) => async () => {
      nativeS.push(note(cache, await native.build(cache, argsOf(cache))))
    }),
  ]
  for (const build of rotated(contestants, run)) await build()
  note('best native', Math.min(...nativeS))
  // Another line: the fresh node has told the mesh what it made of this one.
  await workspace.changeLine()
  note('hearth, hot', await hearth.buildHot(argsOf('hearth')))
}
