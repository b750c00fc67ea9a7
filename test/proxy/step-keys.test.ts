/** A node makes the keys of a build's plan from what passes its proxy, and reports what was expected of each step. */
import test from 'ava'
import type { Digest } from '../../core/digest.ts'
import {
  askOperations,
  contextFolders,
  createContentReader,
  makePlan,
  type Plan,
} from '../../plan/index.ts'
import { StepOutcome, StepPrediction } from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

async function planOf(builder: Builder, context: string): Promise<Plan> {
  const { command, env } = builder.through.buildxCommand([])
  const signal = AbortSignal.timeout(60_000)
  const answer = await askOperations(
    { program: command, env, folder: '/' },
    { flags: [], context },
    { signal },
  )
  if (answer.type !== 'graph') throw new Error(answer.message)
  await using folder = await createTemporaryFolder('contents')
  await using reader = createContentReader({ cacheFolder: folder.path })
  const folders = contextFolders([], context, (text) => text)
  return (await makePlan({ reader }, answer.graph, { folders, platform: '', signal })).plan
}

function layersBytes(layers: readonly { size: number }[] = []): number {
  return layers.reduce((sum, { size }) => sum + size, 0)
}

for (const kind of ['buildx', 'buildctl'] as const) {
  test.serial(`${kind}: the steps of a report have the keys of the plan`, async (t) => {
    t.timeout(180_000)
    await using builder = await startBuilder()
    await using context = await createContext('COPY a /a\nRUN cat /a\nRUN true', { a: '1' })
    const plan = await planOf(builder, context.path)
    const keys = plan.steps.map(({ key }) => key)
    t.true(keys.every((key) => key !== undefined))

    const build = async () => {
      const built = await builder.through[kind](clientKinds[kind](context.path))
      t.is(built.exitCode, 0, built.stderr)
      return await builder.settled()
    }
    const [first, second] = keys
    builder.expected = {
      contents: new Map<string, Digest>(Object.entries(plan.contents)),
      predictions: new Map([
        [first ?? '', StepPrediction.STEP_PREDICTION_REUSED],
        [second ?? '', StepPrediction.STEP_PREDICTION_RUNS],
      ]),
    }
    const planned = await build()
    t.deepEqual(planned.steps.map(({ key }) => key).sort(), [...keys].map(String).sort())
    t.deepEqual(
      planned.steps
        .map(({ key, predicted, outcome }) => [keys.indexOf(key as Digest), predicted, outcome])
        .sort(),
      keys.map((_, index) => [
        index,
        index === 0 ? 1 : index === 1 ? 2 : 0,
        StepOutcome.STEP_OUTCOME_RAN,
      ]),
    )

    const layers = builder.records.stepLayers(builder.scope)
    const weights = keys.map((key) => layersBytes(key === undefined ? [] : layers.get(key)))
    t.true(
      weights.every((bytes) => bytes > 0),
      `every step's layers are known: ${weights}`,
    )
    t.deepEqual(weights, weights.toSorted(), 'each stands on the one before')

    delete builder.expected
    const unplanned = await build()
    const copies = unplanned.steps.filter(({ key }) => key === '')
    t.true(copies.length > 0, 'what copies from the context has no key without a plan')
    t.true(unplanned.steps.every(({ predicted }) => predicted === 0))
    t.deepEqual([...builder.records.stepLayers(builder.scope).keys()].sort(), keys.toSorted())
  })
}
