/**
 * What plans foresee against what BuildKit does, for every instruction and kind of mount, and the keys of the
 * plan against those of the definition that passes a node. Prints the table.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import type { Plan } from '../../plan/index.ts'
import {
  busyboxImage,
  createTemporaryFolder,
  pushImage,
  startUpstreamRegistry,
} from '../harness/index.ts'
import { type Case, type Change, cases, type Place, write } from './cases.ts'
import { type Planner, type RealBuild, startPlanner } from './planner.ts'

interface Row {
  readonly title: string
  readonly what: string
  readonly steps: number
  readonly predicted: number
  readonly hits: number
  /** Otherwise than predicted, and the plan had said that it cannot know. */
  readonly doubted: number
  readonly wrong: readonly string[]
}

test('plans foresee what BuildKit reuses, over every instruction and mount', async (t) => {
  t.timeout(280_000)
  await using registry = await startUpstreamRegistry()
  await using folder = await createTemporaryFolder('plan-cases')
  await using web = await serve('fixed for good')

  // Two daemons that know nothing of each other: what one has built, the other has not.
  const lanes = [0, 1].map(async (lane) => {
    await using planner = await startPlanner()
    const place = await preparePlace(planner, {
      host: registry.host,
      images: `lane-${lane}`,
      folder: path.join(folder.path, `lane-${lane}`),
      web,
    })
    return await runCases(
      planner,
      place,
      cases.filter((_, index) => index % 2 === lane),
    )
  })
  const rows = (await Promise.all(lanes)).flat()
  t.log(tableOf(rows))
  t.deepEqual(
    rows.flatMap(({ title, what, wrong }) => wrong.map((name) => `${title}, ${what}: ${name}`)),
    [],
  )
  t.true(cases.length >= 30)
  // A plan that foresaw nothing would be right about many a step.
  t.true(rows.reduce((sum, row) => sum + row.hits, 0) > 50)
})

async function runCases(
  planner: Planner,
  shared: SharedPlace,
  mine: readonly Case[],
): Promise<Row[]> {
  const built = new Set<string>()
  const rows: Row[] = []
  for (const [index, one] of mine.entries()) {
    const context = path.join(shared.folder, `case-${index}`)
    const place: Place = { ...shared, beside: `${context}-beside` }
    await write(context, { Dockerfile: one.dockerfile, ...one.files })
    await fillArchive(context, one)
    await one.prepare?.(context)
    rows.push(await compare(planner, one, { what: 'first build' }, { context, place, built }))
    for (const change of one.changes) {
      await write(context, {
        ...(change.dockerfile === undefined ? {} : { Dockerfile: change.dockerfile }),
        ...change.files,
      })
      await change.change?.(context, place)
      rows.push(await compare(planner, one, change, { context, place, built }))
    }
  }
  return rows
}

async function compare(
  planner: Planner,
  one: Case,
  change: Change,
  run: { context: string; place: Place; built: Set<string> },
): Promise<Row> {
  const { context, place, built } = run
  const own = (change.flags ?? one.flags)?.(place) ?? []
  const flags = [{ name: 'build-arg', value: `IMAGES=${place.registry}` }, ...own]
  const plan = await planner.plan({ context, flags })
  const real = await planner.build({ context, flags }, plan)
  const row = rowOf(one.title, change.what, plan, real, built)
  for (const { key } of plan.steps) if (key !== undefined) built.add(key)
  return row
}

function rowOf(
  title: string,
  what: string,
  plan: Plan,
  real: RealBuild,
  built: ReadonlySet<string>,
): Row {
  const wrong: string[] = []
  let [predicted, hits, doubted] = [0, 0, 0]
  for (const step of plan.steps) {
    const { key, name } = step
    const outcome = key === undefined ? undefined : real.outcomes.get(key)
    if (key === undefined || outcome === undefined) {
      wrong.push(`the node makes another key for ${name}`)
      continue
    }
    const foreseen = built.has(key) && step.recognizable && !step.ignoresCache
    if (foreseen) predicted += 1
    if (outcome === 'hit') hits += 1
    if (foreseen === (outcome === 'hit') || outcome === 'unseen') continue
    if (step.doubt === 'source' || (step.doubt === 'content' && outcome === 'hit')) doubted += 1
    else if (foreseen) wrong.push(`ran, though it was foreseen as reused: ${name}`)
    else wrong.push(`was reused, though it was foreseen to run: ${name}`)
  }
  if (real.outcomes.size !== plan.steps.length || real.unknownSteps > 0) {
    wrong.push(`the node sees ${real.outcomes.size} steps and ${real.unknownSteps} without a key`)
  }
  return { title, what, steps: plan.steps.length, predicted, hits, doubted, wrong }
}

function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(({ title, what, steps, predicted, hits, doubted, wrong }) => {
    const shown = title.length > 44 ? `${title.slice(0, 43)}…` : title
    const numbers = [steps, predicted, hits, doubted].map((number) => `${number}`.padStart(9))
    return `${shown.padEnd(45)} ${what.padEnd(40)}${numbers.join('')}${wrong.length > 0 ? '  WRONG' : ''}`
  })
  const sum = (pick: (row: Row) => number) => rows.reduce((total, row) => total + pick(row), 0)
  const sums = [
    sum((row) => row.steps),
    sum((row) => row.predicted),
    sum((row) => row.hits),
    sum((row) => row.doubted),
  ]
  const head = ['steps', 'foreseen', 'reused', 'doubted'].map((word) => word.padStart(9)).join('')
  return [
    `${'build'.padEnd(45)} ${'changed'.padEnd(40)}${head}`,
    ...lines,
    `${'all'.padEnd(86)}${sums.map((number) => `${number}`.padStart(9)).join('')}`,
  ].join('\n')
}

type SharedPlace = Omit<Place, 'beside'> & { readonly folder: string }

async function preparePlace(
  planner: Planner,
  made: { host: string; images: string; folder: string; web: WebServer },
): Promise<SharedPlace> {
  const { host, images, folder, web } = made
  await pushImage(host, `${images}/busybox`, '1', await busyboxImage())
  const registry = `${host}/${images}`
  const layout = path.join(folder, 'layout')
  const source = path.join(folder, 'images')
  let version = 0

  async function build(dockerfile: string, output: string): Promise<void> {
    await write(source, { Dockerfile: `FROM ${registry}/busybox:1\n${dockerfile}` })
    const result = await planner.buildx.build(['--provenance', 'false', '--output', output, source])
    if (result.exitCode !== 0) throw new Error(result.stderr)
  }
  const push = (name: string) => `type=image,name=${registry}/${name}:1,push=true`
  const moveImage = async () => {
    version += 1
    await build(`RUN echo ${version} > /version`, push('moving'))
  }
  await build('RUN echo parent > /version', push('parent'))
  await build('ONBUILD COPY a /trigger/a', push('triggers'))
  await build('RUN echo layout > /version', `type=oci,dest=${layout},tar=false`)
  await moveImage()
  return {
    folder,
    registry,
    layout,
    moveImage,
    http: web.url,
    httpDigest: web.digest,
  }
}

/** An archive cannot be written as text. */
async function fillArchive(context: string, one: Case): Promise<void> {
  if (one.files?.['b.tar'] === undefined) return
  await promisify(execFile)('tar', ['-cf', 'b.tar', 'a'], { cwd: context })
}

type WebServer = AsyncDisposable & { readonly url: string; readonly digest: string }

async function serve(text: string): Promise<WebServer> {
  const server = http.createServer((_, answer) => answer.end(text))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    digest: createHash('sha256').update(text).digest('hex'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
