import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { silentLogger } from '../../core/log.ts'
import { BuildOutcome, SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import { createNodeControlPool, createNodeDirectory } from '../nodes/index.ts'
import { type BuildRecord, openState } from '../state/index.ts'
import { endLostBuilds } from './index.ts'

const never = new AbortController().signal
const log = silentLogger
const history = { buildsMax: 100, ageMs: 1e12, solvesPerBuildMax: 10 }

/** State with builds, and nodes that are all away. */
async function startWith(...builds: Partial<BuildRecord>[]) {
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-lost-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const state = stack.use(openState({ folder, history }))
  const control = stack.use(
    createNodeControlPool({ certificatePem: '', privateKeyPem: '', caPem: '' }),
  )
  const directory = createNodeDirectory({ state, log }, { heartbeatMs: 1_000 })
  for (const build of builds) {
    state.builds.add({
      id: 'b1',
      project: 'app',
      line: 'main',
      command: '',
      platforms: [],
      openedAtMs: 1_000,
      clientPublicKey: Buffer.from('a key'),
      certificateUntilMs: 50_000,
      nodeIds: [],
      outcome: 0,
      durationMs: 0,
      stepsReused: 0,
      stepsTotal: 0,
      savedMs: 0,
      ...build,
    })
  }
  const owned = stack.move()
  return {
    state,
    look: (nowMs: number) =>
      endLostBuilds({ state, directory, control, log }, new Set(), { nowMs, signal: never }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

test('a build is lost when nobody can go on with it: its certificate has expired', async (t) => {
  await using all = await startWith({ id: 'b1' }, { id: 'b2', certificateUntilMs: 90_000 })
  await all.look(49_000)
  t.is(all.state.builds.unfinished().length, 2)
  await all.look(60_000)
  t.like(all.state.builds.get('b1'), {
    outcome: BuildOutcome.BUILD_OUTCOME_LOST,
    finishedAtMs: 60_000,
  })
  t.deepEqual(
    all.state.builds.unfinished().map(({ id }) => id),
    ['b2'],
  )
})

test('what its node has said of it by then counts', async (t) => {
  await using all = await startWith({ id: 'b1', nodeIds: ['n1'] })
  const solve = (ref: string, outcome: BuildOutcome) =>
    SolveReport.create({ ref, outcome, startedAt: new Date(2_000), durationMs: 3_000 })
  all.state.builds.putSolve('b1', 'n1', solve('one', BuildOutcome.BUILD_OUTCOME_SUCCEEDED))
  all.state.builds.putSolve('b1', 'n1', solve('two', BuildOutcome.BUILD_OUTCOME_FAILED))
  await all.look(60_000)
  t.like(all.state.builds.get('b1'), {
    outcome: BuildOutcome.BUILD_OUTCOME_FAILED,
    durationMs: 4_000,
  })
})

test('a build whose node cannot be asked is not given up before its certificate expires', async (t) => {
  await using all = await startWith({ id: 'b1', nodeIds: ['away'] })
  for (const nowMs of [2_000, 3_000, 4_000, 49_999]) await all.look(nowMs)
  t.is(all.state.builds.unfinished().length, 1)
})
