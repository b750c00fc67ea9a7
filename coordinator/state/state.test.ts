import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import { open } from 'lmdb'
import { HearthError } from '../../core/errors.ts'
import { BuildOutcome, KeepOutcome, SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import {
  type BuildRecord,
  type NodeRecord,
  newId,
  openState,
  type ProjectRecord,
  type State,
} from './index.ts'

const history = { buildsMax: 5, ageMs: 60_000, solvesPerBuildMax: 3 }

async function temporaryFolder() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-state-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

function project(name: string): ProjectRecord {
  return { name, createdAtMs: 1, bytesMax: 0, daysMax: 0 }
}

function build(id: string, change: Partial<BuildRecord> = {}): BuildRecord {
  return {
    id,
    project: 'app',
    line: 'main',
    command: 'hearth build .',
    platforms: ['linux/amd64'],
    openedAtMs: 1,
    clientPublicKey: Buffer.from([0, 255, 1]),
    certificateUntilMs: 100,
    nodeIds: [],
    outcome: BuildOutcome.BUILD_OUTCOME_UNSPECIFIED,
    durationMs: 0,
    stepsReused: 0,
    stepsTotal: 0,
    savedMs: 0,
    ...change,
  }
}

test('solves are pending until their nodes say what became of their caches', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const pending = SolveReport.create({ ref: 'r1', keep: KeepOutcome.KEEP_OUTCOME_PENDING })
  state.builds.add(build('b1'))
  state.builds.putSolve('b1', 'n1', pending)
  state.builds.putSolve('b1', 'n2', { ...pending, keep: KeepOutcome.KEEP_OUTCOME_KEPT })
  t.deepEqual(
    state.builds.pending().map(({ buildId, nodeId, solve }) => [buildId, nodeId, solve.ref]),
    [['b1', 'n1', 'r1']],
  )
  state.builds.putSolve('b1', 'n1', { ...pending, keep: KeepOutcome.KEEP_OUTCOME_LOST })
  t.deepEqual(state.builds.pending(), [])
})

test('what was written is there after opening again', async (t) => {
  await using temporary = await temporaryFolder()
  {
    await using state = openState({ ...temporary, history })
    state.projects.put('app', project('app'))
    state.builds.add(build('b1'))
    state.builds.putSolve('b1', 'n1', SolveReport.create({ ref: 'r1', durationMs: 7 }))
    state.steps.put('app', 'sha256:1', 42, 1)
  }
  await using state = openState({ ...temporary, history })
  t.deepEqual(state.projects.list(), [project('app')])
  t.deepEqual(Buffer.from(state.builds.get('b1')?.clientPublicKey ?? []), Buffer.from([0, 255, 1]))
  t.deepEqual(
    state.builds.solves('b1').map(({ ref, durationMs }) => [ref, durationMs]),
    [['r1', 7]],
  )
  t.is(state.steps.lastRanMs('app', 'sha256:1'), 42)
  t.is(state.steps.lastRanMs('other', 'sha256:1'), 0)
})

test('a write that throws leaves nothing behind, nested ones included', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const write = () =>
    state.write(() => {
      state.projects.put('app', project('app'))
      state.builds.add(build('b1'))
      throw new HearthError('forbidden', 'no')
    })
  t.throws(write, { instanceOf: HearthError, message: 'no' })
  t.is(state.projects.get('app'), undefined)
  t.is(state.builds.get('b1'), undefined)
  t.deepEqual(state.builds.list({ project: undefined, limit: 10 }), [])
  t.is(
    state.write(() => 'fine'),
    'fine',
  )
})

test('nodes are remembered as they were written last, and as they were before a write that throws', async (t) => {
  await using temporary = await temporaryFolder()
  const node = (id: string, name: string): NodeRecord => ({
    ...{ id, name, platform: 'linux/amd64', version: '1', publicKeyHash: '' },
    ...{ buildAddress: '', controlAddress: '', joinedAtMs: 1, lastSeenAtMs: 1 },
  })
  const names = (state: State): string[] => state.nodes.list().map(({ name }) => name)
  {
    await using state = openState({ ...temporary, history })
    state.nodes.put('b', node('b', 'second'))
    state.nodes.put('a', node('a', 'first'))
    t.deepEqual(names(state), ['first', 'second'])
    state.nodes.put('a', node('a', 'renamed'))
    t.is(state.nodes.get('a')?.name, 'renamed')
    const write = () =>
      state.write(() => {
        state.nodes.put('a', node('a', 'undone'))
        state.nodes.remove('b')
        t.deepEqual(names(state), ['undone'])
        throw new HearthError('forbidden', 'no')
      })
    t.throws(write, { instanceOf: HearthError })
    t.deepEqual(names(state), ['renamed', 'second'])
    t.is(state.nodes.get('b')?.name, 'second')
    state.nodes.remove('b')
    t.is(state.nodes.get('b'), undefined)
    t.deepEqual(names(state), ['renamed'])
  }
  await using again = openState({ ...temporary, history })
  t.deepEqual(names(again), ['renamed'])
})

test('what was acknowledged survives SIGKILL', async (t) => {
  await using temporary = await temporaryFolder()
  const script = `
    import { openState } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)}
    const state = openState(${JSON.stringify({ ...temporary, history })})
    for (let count = 0; ; count += 1) {
      state.write(() => {
        state.projects.put('a' + count, { name: 'a' + count, createdAtMs: 1, bytesMax: 0, daysMax: 0 })
        state.projects.put('b' + count, { name: 'b' + count, createdAtMs: 1, bytesMax: 0, daysMax: 0 })
      })
      process.stdout.write(count + '\\n')
      await new Promise(setImmediate)
    }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let acknowledged = -1
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged >= 20) child.kill('SIGKILL')
  }
  t.true(acknowledged >= 20)
  await using state = openState({ ...temporary, history })
  for (let count = 0; count <= acknowledged; count += 1) {
    t.is(state.projects.get(`a${count}`)?.name, `a${count}`)
    t.is(state.projects.get(`b${count}`)?.name, `b${count}`)
  }
  const [a, b] = ['a', 'b'].map((letter) => state.projects.get(`${letter}${acknowledged + 1}`))
  t.is(a === undefined, b === undefined, 'the write that was interrupted is whole or absent')
})

test('a table made by a newer Hearth is refused', async (t) => {
  await using temporary = await temporaryFolder()
  await openState({ ...temporary, history })[Symbol.asyncDispose]()
  const root = open({ path: path.join(temporary.folder, 'state'), maxDbs: 16 })
  root.openDB({ name: 'versions' }).putSync('builds', 2)
  await root.close()
  const error = t.throws(() => openState({ ...temporary, history }), { instanceOf: HearthError })
  t.is(error?.code, 'version')
  t.is(error?.message, 'the coordinator\'s table "builds" has version 2; this Hearth knows up to 1')
})

test('an entry of another shape is reported as corrupt, with its table and key', async (t) => {
  await using temporary = await temporaryFolder()
  await openState({ ...temporary, history })[Symbol.asyncDispose]()
  const root = open({ path: path.join(temporary.folder, 'state'), maxDbs: 16 })
  root.openDB({ name: 'projects' }).putSync('app', { name: 7 })
  await root.close()
  await using state = openState({ ...temporary, history })
  const error = t.throws(() => state.projects.get('app'), { instanceOf: HearthError })
  t.is(error?.code, 'corrupt')
  t.regex(error?.message ?? '', /"projects".*"app"/)
})

test('builds are listed newest first, of all projects or of one', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  state.builds.add(build('old', { openedAtMs: 10 }))
  state.builds.add(build('mid', { openedAtMs: 20, project: 'app-two' }))
  state.builds.add(build('new', { openedAtMs: 30 }))
  const ids = (project: string | undefined, limit: number) =>
    state.builds.list({ project, limit }).map(({ id }) => id)
  t.deepEqual(ids(undefined, 10), ['new', 'mid', 'old'])
  t.deepEqual(ids('app', 10), ['new', 'old'])
  t.deepEqual(ids('app', 1), ['new'])
  t.deepEqual(ids('app-two', 10), ['mid'])
  t.deepEqual(ids('ap', 10), [])
})

test('a build is found by the beginning of its id', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  for (const id of ['aabb', 'aacc', 'aacd', 'bb']) state.builds.add(build(id))
  state.builds.add(build('bc', { project: 'other' }))
  const ids = (prefix: string, project?: string) =>
    state.builds.startingWith(prefix, { project }).map(({ id }) => id)
  t.deepEqual(ids('aab'), ['aabb'])
  t.deepEqual(ids('aacc'), ['aacc'])
  t.is(ids('aa').length, 2)
  t.deepEqual(ids('b', 'app'), ['bb'])
  t.deepEqual(ids('x'), [])
})

test('the history keeps the newest builds and takes the solves of the others away', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  for (let count = 0; count < 8; count += 1) {
    state.builds.add(build(`b${count}`, { openedAtMs: 1_000 + count }))
    state.builds.putSolve(`b${count}`, 'n1', SolveReport.create({ ref: 'r' }))
  }
  const ids = state.builds.list({ project: undefined, limit: 100 }).map(({ id }) => id)
  t.deepEqual(ids, ['b7', 'b6', 'b5', 'b4', 'b3'])
  t.deepEqual(state.builds.solves('b2'), [])
  t.is(state.builds.unfinished().length, 5)
  t.is(state.builds.prune(1_005 + history.ageMs), 2)
  t.is(state.builds.list({ project: 'app', limit: 100 }).length, 3)
})

test('a solve is replaced by its ref, and a build has only so many', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  state.builds.add(build('b1'))
  const put = (ref: string, durationMs: number) =>
    state.builds.putSolve('b1', 'n1', SolveReport.create({ ref, durationMs }))
  t.true(put('r1', 1))
  t.true(put('r2', 1))
  t.true(put('r1', 5))
  t.true(put('r3', 1))
  t.false(put('r4', 1))
  t.true(put('r3', 9))
  t.deepEqual(
    state.builds.solves('b1').map(({ ref, durationMs }) => `${ref} ${durationMs}`),
    ['r1 5', 'r2 1', 'r3 9'],
  )
})

test('a finished build is no longer among the unfinished ones', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  state.builds.add(build('b1'))
  state.builds.add(build('b2'))
  state.builds.update('b1', { finishedAtMs: 5 })
  t.deepEqual(
    state.builds.unfinished().map(({ id }) => id),
    ['b2'],
  )
  t.is(state.builds.update('gone', { finishedAtMs: 5 }), undefined)
})

test('old durations go, a few at a time, going on where the last look stopped', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const now = 200 * 24 * 60 * 60_000
  for (let count = 0; count < 10; count += 1) {
    state.steps.put('app', `sha256:${count}`, 5, count % 2 === 0 ? 0 : now)
  }
  t.is(state.steps.prune(now, { entriesMax: 4 }), 2)
  t.is(state.steps.prune(now, { entriesMax: 4 }), 2)
  t.is(state.steps.prune(now, { entriesMax: 4 }), 1)
  t.is(state.steps.lastRanMs('app', 'sha256:8'), 0)
  t.is(state.steps.lastRanMs('app', 'sha256:9'), 5)
})

test('ids are 60 random bits in characters that need no quoting', (t) => {
  const ids = new Set(Array.from({ length: 1_000 }, () => newId(12)))
  t.is(ids.size, 1_000)
  for (const id of ids) t.regex(id, /^[a-z2-7]{12}$/)
})
