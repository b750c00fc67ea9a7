import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../../core/errors.ts'
import { mib } from '../../core/limits.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import { createScheduler, type Lease } from '../scheduler/index.ts'
import { createDiskGuard } from './guard.ts'
import { marksOf } from './marks.ts'

const marks = { comfort: 400 * mib, low: 300 * mib, minimum: 200 * mib, floor: 100 * mib }
const scope = makeScope('app', 'main')

/** @param makeRoom what shrinking does to the free bytes. */
function watch(
  t: ExecutionContext,
  disk: { freeBytes: number; inUse?: number },
  makeRoom: () => void = () => {},
) {
  const scheduler = createScheduler({ log: silentLogger }, { slots: 2 })
  const guard = createDiskGuard(
    {
      scheduler,
      space: async () => ({ freeBytes: disk.freeBytes, totalBytes: 3000 * mib }),
      makeRoom: async () => makeRoom(),
      inUse: () => disk.inUse ?? 0,
      log: silentLogger,
    },
    { marks, folder: '/data', restingMs: 20 },
  )
  // The guard keeps no process alive, not even this one.
  const awake = setInterval(() => {}, 1_000)
  t.teardown(async () => {
    clearInterval(awake)
    await guard[Symbol.asyncDispose]()
    await scheduler[Symbol.asyncDispose]()
  })
  const told: string[] = []
  const lease = (buildId: string): Promise<Lease> =>
    scheduler.lease(
      { buildId, scope },
      {
        onQueued: (_place, reason) => told.push(reason),
        signal: AbortSignal.timeout(20_000),
      },
    )
  return { scheduler, guard, lease, told }
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error('waited in vain')
    await delay(10)
  }
}

test('the marks of a small disk are shares of it, those of a large one are not', (t) => {
  t.deepEqual(marksOf(3000 * mib, undefined), {
    comfort: 600 * mib,
    low: 450 * mib,
    minimum: 300 * mib,
    floor: 150 * mib,
  })
  t.is(marksOf(4_000_000 * mib, undefined).minimum, 2048 * mib)
  t.is(marksOf(4_000_000 * mib, undefined).floor, 512 * mib)
  t.is(marksOf(3000 * mib, 50 * mib).low, 75 * mib)
})

test('below the low mark the caches shrink, and builds go on', async (t) => {
  const disk = { freeBytes: 250 * mib }
  const { guard, lease } = watch(t, disk, () => {
    disk.freeBytes = 400 * mib
  })
  t.truthy(await lease('one'))
  await until(() => disk.freeBytes === 400 * mib)
  t.false(guard.isShort)
})

test('below the minimum builds wait, are told why, and go on by themselves', async (t) => {
  const disk = { freeBytes: 150 * mib, inUse: 1 }
  const { guard, lease, told } = watch(t, disk)
  await until(() => guard.isShort)
  const waiting = lease('one')
  await until(() => told.length > 0)
  t.is(told[0], 'the node makes room on its disk (157 MB free, builds begin at 210 MB)')
  disk.freeBytes = 300 * mib
  t.is((await waiting).buildId, 'one')
  t.false(guard.isShort)
})

test('when a scope comes to rest, room is tried for again', async (t) => {
  const disk = { freeBytes: 150 * mib, inUse: 1 }
  let tries = 0
  const { guard, lease } = watch(t, disk, () => {
    tries += 1
    if (disk.inUse === 0) disk.freeBytes = 400 * mib
  })
  await until(() => guard.isShort && tries === 1)
  const waiting = lease('one')
  disk.inUse = 0
  t.truthy(await waiting)
  t.is(tries, 2)
})

test('when nothing can be freed builds are refused, until there is room again', async (t) => {
  const disk = { freeBytes: 150 * mib }
  const { guard, lease } = watch(t, disk)
  await until(() => guard.isShort)
  const error = await t.throwsAsync(lease('one'), { instanceOf: HearthError })
  t.is(error?.code, 'exhausted')
  t.regex(error?.message ?? '', /less than 210 MB are free in \/data/)
  t.regex(error?.hint ?? '', /free space on the node/)
  disk.freeBytes = 300 * mib
  await until(() => !guard.isShort)
  t.truthy(await lease('two'))
})

test('below the floor running builds are stopped with the figures, and who waits goes on waiting', async (t) => {
  const disk = { freeBytes: 1000 * mib, inUse: 1 }
  const { lease, told } = watch(t, disk)
  const running = await lease('one')
  using _active = running.begin('solve')
  disk.freeBytes = 90 * mib
  await until(() => running.ended.aborted)
  const reason: unknown = running.ended.reason
  t.true(reason instanceof HearthError && reason.code === 'exhausted')
  t.is(
    (reason as HearthError).message,
    "the node's disk is nearly full: 94 MB free in /data, and builds are stopped below 105 MB",
  )
  const next = lease('next')
  await until(() => told.length > 0)
  disk.freeBytes = 500 * mib
  t.truthy(await next)
})
