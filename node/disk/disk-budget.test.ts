/** Policies and room over a real store and scheduler; BuildKit's states are only numbers here. */
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { gib } from '../../core/limits.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope, type Scope, scopeId } from '../../core/scope.ts'
import type { DaemonPool, PruneRequest } from '../buildkit-runner/daemon/index.ts'
import {
  put,
  randomBlob,
  temporaryFolder,
  temporaryStore,
} from '../cache-store/temporary-store.fixture.ts'
import { createScheduler } from '../scheduler/index.ts'
import { createDiskBudget, type DiskBudgetOptions } from './index.ts'

const main = makeScope('app', 'main')
const fork = makeScope('app', 'fork')
const other = makeScope('other', 'main')
const never = new AbortController().signal
const dayMs = 86_400_000

interface State {
  scope: Scope
  bytes: number
  inUse?: boolean
  lastUsedAtMs: number
  setAside?: number
}

/** A pool whose states are numbers. `done` says what was asked of it, in order. */
function poolOf(states: State[]) {
  const done: string[] = []
  const find = (scope: Scope) => states.find((state) => scopeId(state.scope) === scopeId(scope))
  const pool: DaemonPool = {
    acquire: () => Promise.reject(new Error('nothing runs here')),
    contentFile: () => undefined,
    measure: async (scope) => ({
      bytes: find(scope)?.bytes ?? 0,
      bytesSetAside: find(scope)?.setAside ?? 0,
      content: [],
    }),
    isInUse: (scope) => find(scope)?.inUse ?? false,
    lastUsedAtMs: async (scope) => find(scope)?.lastUsedAtMs ?? 0,
    async prune(scope, { bytesMax, insist, measure }: PruneRequest) {
      const state = find(scope)
      const bytesBefore = await measure({ signal: never })
      if (state === undefined || state.inUse) return { type: 'kept', reason: 'in use' }
      if (bytesBefore <= bytesMax) return { type: 'kept', reason: 'within its limit' }
      state.bytes = bytesMax
      done.push(`${insist ? 'insist' : 'prune'} ${scopeId(scope)} ${Math.round(bytesMax)}`)
      return { type: 'pruned', bytesBefore, bytesAfter: bytesMax }
    },
    async removeSetAside(scope, beforeMs) {
      const state = find(scope)
      if (!state?.setAside || beforeMs < Date.now() - dayMs) return
      state.setAside = 0
      done.push(`aside ${scopeId(scope)}`)
    },
    async reset(scope) {
      const state = find(scope)
      const bytesFreed = state?.bytes ?? 0
      if (state !== undefined) states.splice(states.indexOf(state), 1)
      done.push(`reset ${scopeId(scope)}`)
      return { bytesFreed }
    },
    setLeases() {},
    async deny() {},
    async reach() {},
    scopes: () => states.map(({ scope }) => scope),
    async [Symbol.asyncDispose]() {},
  }
  return { pool, done }
}

async function start(
  t: ExecutionContext,
  states: State[],
  bytesMax: number,
  options: Partial<DiskBudgetOptions> = {},
) {
  const { store, folder } = await temporaryStore(t, { defaultPolicy: { bytesMax, daysMax: 30 } })
  const { pool, done } = poolOf(states)
  const scheduler = createScheduler({ log: silentLogger }, { slots: 2 })
  const budget = await createDiskBudget(
    { daemons: pool, store, scheduler, log: silentLogger },
    { folder: await temporaryFolder(t), ...roomy, ...options },
  )
  const awake = setInterval(() => {}, 1_000)
  t.teardown(async () => {
    clearInterval(awake)
    await budget[Symbol.asyncDispose]()
    await scheduler[Symbol.asyncDispose]()
  })
  return { store, folder, done, scheduler, budget }
}

const roomy = { space: async () => ({ freeBytes: 500 * gib, totalBytes: 1000 * gib }) }

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error('waited in vain')
    await delay(10)
  }
}

test('a policy governs state and blobs together: the state yields to its half, then the oldest blobs go', async (t) => {
  const states = [{ scope: main, bytes: 90_000, lastUsedAtMs: Date.now() - 1 }]
  const { store, done, budget } = await start(t, states, 100_000)
  for (let made = 0; made < 8; made++) await put(store, main, randomBlob(10_000).bytes)
  budget.tend()
  await until(() => store.projectBytes('app') === 50_000)
  t.deepEqual(done, ['prune app/main 50000'])
  const { projects } = await budget.usage({ signal: never })
  t.deepEqual(projects, [{ project: 'app', bytes: 100_000, bytesMax: 100_000, daysMax: 30 }])
})

test('a scope that is never idle is held back when it is far over, and goes on once it was pruned', async (t) => {
  const busy: State = { scope: main, bytes: 200_000, inUse: true, lastUsedAtMs: Date.now() }
  const { done, scheduler, budget } = await start(t, [busy], 100_000)
  const running = await scheduler.lease({ buildId: 'running', scope: main }, { signal: never })
  using _active = running.begin('solve')
  budget.tend()
  const told: string[] = []
  // The hold comes with the look that was asked for.
  await until(() => {
    const probe = new AbortController()
    scheduler
      .lease(
        { buildId: 'probe', scope: main },
        { onQueued: (_place, reason) => told.push(reason), signal: probe.signal },
      )
      .then((lease) => lease.release())
      .catch(() => {})
    probe.abort()
    return told.length > 0
  })
  t.regex(told[0] ?? '', /the cache of app\/main on the node is over its limit/)
  t.truthy(await scheduler.lease({ buildId: 'other', scope: other }, { signal: never }))
  const next = scheduler.lease({ buildId: 'next', scope: main }, { signal: never })
  busy.inUse = false
  scheduler.find('other')?.release()
  t.truthy(await next)
  t.deepEqual(done, ['insist app/main 100000'])
})

test('a state that nobody has used for longer than the policy says goes whole', async (t) => {
  const states = [
    { scope: main, bytes: 1_000, lastUsedAtMs: Date.now() - 31 * dayMs },
    { scope: fork, bytes: 1_000, lastUsedAtMs: Date.now() - 29 * dayMs },
  ]
  const { done, budget } = await start(t, states, 100_000)
  budget.tend()
  await until(() => done.length > 0)
  t.deepEqual(done, ['reset app/main'])
})

test('room is made in the written order, and what a build uses is not touched', async (t) => {
  const nowMs = Date.now()
  const states: State[] = [
    { scope: makeScope('busy', 'main'), bytes: 9_000, inUse: true, lastUsedAtMs: 1 },
    { scope: other, bytes: 40_000, lastUsedAtMs: nowMs - 60_000 },
    { scope: fork, bytes: 30_000, lastUsedAtMs: nowMs - 2 * 3_600_000 },
    { scope: main, bytes: 20_000, lastUsedAtMs: nowMs - 3 * 3_600_000, setAside: 5_000 },
  ]
  const bytesMax = 3_000_000
  const { store, done, budget } = await start(t, states, gib, {
    // The limit of the node drives the same order as a disk that fills up.
    bytesMax,
  })
  const pinned = await put(store, main, randomBlob(600_000).bytes)
  using _pin = store.pin(main, [pinned])
  for (let made = 0; made < 20; made++) await put(store, main, randomBlob(200_000).bytes)
  budget.tend()
  // Of the last eviction the rows go before the files.
  const usage = () => budget.usage({ signal: never })
  await until(async () => (await usage()).totalBytes <= bytesMax)
  t.deepEqual(done, ['aside app/main', 'reset app/main', 'reset app/fork', 'reset other/main'])
  t.truthy(store.stat(main, pinned))
})
