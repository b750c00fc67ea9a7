/**
 * The first build on a machine that has never seen the project, as every build is in a CI with fresh runners, and as
 * each node's first is in a fleet that grows: unchanged, and after changes of three kinds.
 */
import { startS3, startUpstreamRegistry } from '../../test/harness/index.ts'
import { startHearthNodes } from '../fresh-node/hearth-nodes.ts'
import { fillNativeCaches, type NativeCache, nativeCaches } from '../fresh-node/native-caches.ts'
import type { Measurement } from '../index.ts'
import { rotated } from '../rotation.ts'
import { createSamples, type Samples } from '../samples.ts'
import { findWorkload, type Workload } from '../workloads.ts'

const scenarios = [
  { what: 'unchanged', change: async () => {}, isJudged: true },
  { what: 'changed late', change: (workspace) => workspace.changeLine(), isJudged: true },
  { what: 'changed early', change: (workspace) => workspace.changeDependencies(), isJudged: true },
  { what: 'changed base', change: (workspace) => workspace.changeBase(), isJudged: false },
] as const satisfies readonly Scenario[]

interface Scenario {
  what: string
  change: (workspace: Awaited<ReturnType<Workload['create']>>) => Promise<void>
  /** What is not is measured in the first run alone: nearly all of it is the same compiler at work. */
  isJudged: boolean
}

/** The faster of these two in each run is what people could have instead. */
const bestOf: readonly NativeCache[] = ['registry cache', 's3 cache']

export const freshNode: Measurement = {
  name: 'fresh-node',
  about:
    "unchanged and changed builds where the project was never seen, against BuildKit's own caches and none",
  defaultRuns: 3,
  async run({ runs, say, workload: name }) {
    const workload = findWorkload(name)
    await workload.prepare(say)
    const samples = createSamples()
    // Everything anew for each run: what one has pushed would help the next.
    for (let run = 0; run < runs; run += 1) {
      await measureOnce(run, workload, samples, (line) => say(`run ${run + 1} of ${runs}: ${line}`))
    }
    const over = (what: (typeof scenarios)[number]['what'], under: string) =>
      samples.ratio(what, 'hearth', under)
    return {
      rows: samples.rows(),
      figures: {
        ratios: {
          unchangedOverBestNative: over('unchanged', 'best native'),
          changedLateOverBestNative: over('changed late', 'best native'),
          changedEarlyOverBestNative: over('changed early', 'best native'),
          unchangedOverHot: over('unchanged', 'hearth, hot'),
          changedLateOverHot: over('changed late', 'hearth, hot'),
          changedEarlyOverHot: over('changed early', 'hearth, hot'),
        },
      },
    }
  },
}

async function measureOnce(
  run: number,
  workload: Workload,
  samples: Samples,
  say: (line: string) => void,
): Promise<void> {
  await using registry = await startUpstreamRegistry()
  await using s3 = await startS3()
  await using workspace = await workload.create(registry.host)
  // A name for each contestant: nobody finds in the registry what another one has pushed.
  const argsOf = (who: string): string[] => {
    const name = `${registry.host}/${who.replaceAll(/\W+/g, '-')}/${workload.name}:dev`
    return ['--output', `type=image,name=${name},push=true`, ...workspace.buildArgs]
  }
  await using native = await fillNativeCaches({ registryHost: registry.host, s3, argsOf, say })
  await using hearth = await startHearthNodes(argsOf('hearth'), { reach: [registry.host], say })
  const note = (who: string, what: string, value: number): number => {
    samples.add(run, { who, what, unit: 's', value })
    say(`${what}, ${who}: ${value.toFixed(2)} s`)
    return value
  }
  note('no cache', 'unchanged', native.withoutCacheS)

  for (const { what, change, isJudged } of scenarios) {
    if (!isJudged && run > 0) continue
    await workspace.restore()
    await change(workspace)
    const nativeS = new Map<NativeCache, number>()
    const contestants = [
      {
        isAlways: true,
        build: async () => void note('hearth', what, await hearth.buildFresh(argsOf('hearth'))),
      },
      ...nativeCaches.map((cache) => ({
        isAlways: bestOf.includes(cache) || what === 'unchanged',
        build: async () => {
          nativeS.set(cache, note(cache, what, await native.build(cache, argsOf(cache))))
        },
      })),
    ].filter(({ isAlways }) => isAlways || run === 0)
    for (const { build } of rotated(contestants, run)) await build()
    note('best native', what, Math.min(...bestOf.map((cache) => nativeS.get(cache) ?? Infinity)))
    // Another change: the fresh node has told the mesh what it made of this one.
    await change(workspace)
    note('hearth, hot', what, await hearth.buildHot(argsOf('hearth')))
  }
}
