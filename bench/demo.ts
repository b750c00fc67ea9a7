/**
 * `npm run demo`: a real Dockerfile of a real program, built by a real buildkitd through Hearth. Cold, then
 * unchanged, then with one source line changed, then after BuildKit's own state has been deleted, then on a node
 * that has just joined, then on another with the first one dead. Each image is pushed to a registry and fetched
 * from it again, every byte. Exits 1 when a promise does not hold.
 */
import { describeError } from '../core/errors.ts'
import {
  type BuildInfo,
  createWorkspace,
  fetchImage,
  prepareGoService,
} from '../test/harness/index.ts'
import { brokenPromises, type DemoFigures, demoFigures, type Stage } from './demo/figures.ts'
import { describeBuild, describeFigures } from './demo/story.ts'
import { busyWarning, describeMachine, readVersions } from './machine.ts'
import { rotated } from './rotation.ts'
import { type Built, buildOn, type MeshSite, startMeshSite } from './site.ts'
import { median } from './statistics.ts'

/** Pairs of Hearth and direct whose medians are compared. */
const unchangedPairs = 5

const json = process.argv.slice(2).includes('--json')
const say = (line: string) => process.stderr.write(`${line}\n`)
const startedAtMs = performance.now()

try {
  const figures = await tellTheStory()
  if (json) process.stdout.write(`${JSON.stringify(figures)}\n`)
  else process.stdout.write(`${describeFigures(figures).join('\n')}\n`)
  const broken = brokenPromises(figures)
  for (const promise of broken) say(`demo: ${promise}`)
  if (broken.length > 0) process.exitCode = 1
} catch (error) {
  say(`demo: ${describeError(error)}`)
  process.exitCode = 1
}

async function tellTheStory(): Promise<DemoFigures> {
  const machine = describeMachine()
  const { buildkitd, buildx } = await readVersions()
  say(`Hearth on ${machine.cores} cores (${machine.cpu}), BuildKit ${buildkitd}, buildx ${buildx}`)
  const warning = busyWarning(machine)
  if (warning !== undefined) note(warning)
  await prepareGoService((line) => note(line))
  await using site = await startMeshSite()
  note('a registry, a coordinator and one node are up')
  await using workspace = await createWorkspace(site.registry.host)
  const args = [...site.pushArgs('linkd'), ...workspace.buildArgs]
  say('')

  const cold = await buildStage(site, 'cold', args)

  const direct = await site.direct()
  // The first build with a client of its own uploads the context once more.
  await direct.build(args)
  const unchangedS: number[] = []
  const directUnchangedS: number[] = []
  let lastUnchanged: Built | undefined
  for (let pair = 0; pair < unchangedPairs; pair += 1) {
    for (const builder of rotated([site.throughHearth, direct], pair)) {
      const built = await builder.build(args)
      if (builder === direct) directUnchangedS.push(built.seconds)
      else {
        unchangedS.push(built.seconds)
        lastUnchanged = built
      }
    }
  }
  if (lastUnchanged === undefined) throw new Error('no unchanged build has run')
  const unchanged = await finishStage(site, 'unchanged', lastUnchanged, median(unchangedS))

  await workspace.changeLine()
  const changed = await buildStage(site, 'changed', args)

  const { first, mesh } = site
  await first.stop()
  await first.deleteBuildkitState()
  await first.start()
  const refilled = await buildStage(site, 'refilled', args)

  const second = await mesh.addNode()
  const onSecond = await buildOn(second, args)
  const freshNode = await finishStage(site, 'freshNode', onSecond, onSecond.seconds)

  await first.kill()
  const third = await mesh.addNode()
  const onThird = await buildOn(third, args)
  const deadPeer = await finishStage(site, 'deadPeer', onThird, onThird.seconds)

  return demoFigures(
    {
      cold: cold.seconds,
      unchanged: unchanged.seconds,
      changed: changed.seconds,
      refilled: refilled.seconds,
      freshNode: freshNode.seconds,
      deadPeer: deadPeer.seconds,
      directUnchanged: median(directUnchangedS),
    },
    {
      cold: cold.build,
      unchanged: unchanged.build,
      changed: changed.build,
      refilled: refilled.build,
      freshNode: freshNode.build,
      deadPeer: deadPeer.build,
    },
  )
}

interface StageOutcome {
  seconds: number
  build: BuildInfo
}

async function buildStage(
  site: MeshSite,
  stage: Stage,
  args: readonly string[],
): Promise<StageOutcome> {
  const built = await site.throughHearth.build(args)
  return finishStage(site, stage, built, built.seconds)
}

/** Reads the build's report and fetches its image, so that nobody can say that it was never made. */
async function finishStage(
  site: MeshSite,
  stage: Stage,
  built: Built,
  seconds: number,
): Promise<StageOutcome> {
  if (built.buildId === undefined) throw new Error('a build through Hearth has no id')
  const build = await site.mesh.settled(built.buildId)
  const image = await fetchImage(site.registry.host, 'linkd', 'dev')
  for (const line of describeBuild(stage, seconds, build)) say(line)
  const megabytes = (image.bytes / 1_000_000).toFixed(1)
  note(`its image ${image.digest.slice(0, 19)}… fetched from the registry, ${megabytes} MB\n`)
  return { seconds, build }
}

function note(line: string): void {
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0)
  say(`  (${seconds} s) ${line}`)
}
