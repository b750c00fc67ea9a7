import { once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import { createFakeClock, type FakeClock } from './fake-clock.ts'
import type { Lease, Scheduler, SchedulerOptions } from './index.ts'
import { createScheduler } from './scheduler.ts'

const scope = makeScope('app', 'main')
const forever = new AbortController().signal

function start(options: SchedulerOptions): { scheduler: Scheduler; clock: FakeClock } {
  const clock = createFakeClock()
  return { scheduler: createScheduler({ log: silentLogger, clock }, options), clock }
}

function lease(
  scheduler: Scheduler,
  buildId: string,
  options: {
    project?: string
    onQueued?: (position: number, reason: string) => void
    signal?: AbortSignal
  } = {},
): Promise<Lease> {
  const { project = 'app', signal = forever, ...rest } = options
  return scheduler.lease({ buildId, scope: makeScope(project, 'main') }, { signal, ...rest })
}

async function refusal(t: ExecutionContext, work: Promise<unknown>): Promise<string | undefined> {
  return (await t.throwsAsync(work, { instanceOf: HearthError }))?.code
}

test('a free slot is granted at once, without a word about a queue', async (t) => {
  const { scheduler } = start({ slots: 2 })
  const granted = await lease(scheduler, 'one', { onQueued: () => t.fail() })
  t.is(granted.buildId, 'one')
  t.deepEqual(granted.scope, scope)
  t.is(scheduler.find('one'), granted)
  t.deepEqual(scheduler.load(), { slots: 2, slotsUsed: 1, queued: 0, draining: false })
})

test('whoever shares a machine out is told how many leases each scope has', async (t) => {
  const told: string[] = []
  const onLeases: SchedulerOptions['onLeases'] = ({ project }, leases) =>
    told.push(`${project} ${leases}`)
  const { scheduler } = start({ slots: 3, onLeases })
  const first = await lease(scheduler, 'one')
  await lease(scheduler, 'one')
  await lease(scheduler, 'two')
  await lease(scheduler, 'three', { project: 'other' })
  first.release()
  t.deepEqual(told, ['app 1', 'app 2', 'other 1', 'app 1'])
})

test('a build that asks again gets the lease it has', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const first = await lease(scheduler, 'one')
  t.is(await lease(scheduler, 'one'), first)
  // Two connections of one build that waits.
  const waiting = [lease(scheduler, 'two'), lease(scheduler, 'two')]
  t.is(scheduler.load().queued, 1)
  first.release()
  const [left, right] = await Promise.all(waiting)
  t.is(left, right)
})

test('a build id is no key to another scope’s lease', async (t) => {
  const { scheduler } = start({ slots: 1 })
  await lease(scheduler, 'one')
  t.is(await refusal(t, lease(scheduler, 'one', { project: 'other' })), 'forbidden')
})

test('a client that does not connect in time loses its slot to the next', async (t) => {
  const { scheduler, clock } = start({ slots: 1, connectMs: 30_000 })
  const absent = await lease(scheduler, 'absent')
  t.is(absent.connectByMs, clock.nowMs() + 30_000)
  const next = lease(scheduler, 'next')
  clock.advance(29_999)
  t.false(absent.ended.aborted)
  clock.advance(1)
  t.true(absent.ended.aborted)
  t.is((absent.ended.reason as HearthError).code, 'deadline')
  t.is((await next).buildId, 'next')
  t.is(scheduler.find('absent'), undefined)
  t.throws(() => absent.begin('late connection'), { instanceOf: HearthError })
})

test('an activity holds the lease, and a new one revives it while it lingers', async (t) => {
  const { scheduler, clock } = start({ slots: 1, connectMs: 30_000, lingerMs: 5_000 })
  const granted = await lease(scheduler, 'one')
  const connection = granted.begin('connection')
  const shadow = granted.begin('shadow build')
  clock.advance(3_600_000)
  connection[Symbol.dispose]()
  connection[Symbol.dispose]()
  clock.advance(3_600_000)
  t.false(granted.ended.aborted)
  shadow[Symbol.dispose]()
  clock.advance(4_999)
  const back = granted.begin('second connection')
  clock.advance(60_000)
  t.false(granted.ended.aborted)
  back[Symbol.dispose]()
  clock.advance(5_000)
  t.true(granted.ended.aborted)
  t.is(scheduler.load().slotsUsed, 0)
})

test('a release ends a lease at once, or with its last activity', async (t) => {
  const { scheduler } = start({ slots: 2 })
  const quiet = await lease(scheduler, 'quiet')
  quiet.release()
  t.true(quiet.ended.aborted)
  const busy = await lease(scheduler, 'busy')
  const shadow = busy.begin('shadow build')
  busy.release()
  t.false(busy.ended.aborted)
  shadow[Symbol.dispose]()
  t.true(busy.ended.aborted)
  t.is(scheduler.load().slotsUsed, 0)
})

test('who waits is told its place at once and whenever it changes', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const running = await lease(scheduler, 'running', { project: 'busy' })
  const told = { first: [] as number[], second: [] as number[], other: [] as number[] }
  const first = lease(scheduler, 'first', { project: 'busy', onQueued: (n) => told.first.push(n) })
  const leaving = new AbortController()
  const second = lease(scheduler, 'second', {
    project: 'busy',
    signal: leaving.signal,
    onQueued: (n) => told.second.push(n),
  })
  t.deepEqual(told, { first: [1], second: [2], other: [] })
  // A project without a slot goes before one that has some.
  const other = lease(scheduler, 'other', { project: 'idle', onQueued: (n) => told.other.push(n) })
  t.deepEqual(told, { first: [1, 2], second: [2, 3], other: [1] })
  leaving.abort()
  t.is(await refusal(t, second), 'cancelled')
  running.release()
  t.is((await other).buildId, 'other')
  t.deepEqual(told, { first: [1, 2, 1], second: [2, 3], other: [1] })
  ;(await other).release()
  t.is((await first).buildId, 'first')
})

test('who gives up before it asks never enters the queue', async (t) => {
  const { scheduler } = start({ slots: 1 })
  t.is(await refusal(t, lease(scheduler, 'one', { signal: AbortSignal.abort() })), 'cancelled')
  t.is(scheduler.load().slotsUsed, 0)
})

test('the queue is bounded', async (t) => {
  const { scheduler } = start({ slots: 1, queueMax: 2 })
  await lease(scheduler, 'running')
  const leaving = new AbortController()
  const waiting = [1, 2].map((n) => lease(scheduler, `waiting-${n}`, { signal: leaving.signal }))
  t.is(await refusal(t, lease(scheduler, 'too many')), 'exhausted')
  leaving.abort()
  for (const each of waiting) t.is(await refusal(t, each), 'cancelled')
  t.is(scheduler.load().queued, 0)
})

test('a drain sends the queue away, lets running builds finish and takes no new ones', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const running = await lease(scheduler, 'running')
  const connection = running.begin('connection')
  const waiting = lease(scheduler, 'waiting')
  let done = false
  const draining = scheduler.drain({ signal: forever }).then(() => {
    done = true
  })
  t.is(await refusal(t, waiting), 'unavailable')
  t.is(await refusal(t, lease(scheduler, 'new')), 'unavailable')
  t.is(await lease(scheduler, 'running'), running)
  t.true(scheduler.load().draining)
  t.false(done)
  running.release()
  connection[Symbol.dispose]()
  await draining
  await scheduler.drain({ signal: forever })
})

test('who waits for a drain may give up', async (t) => {
  const { scheduler } = start({ slots: 1 })
  await lease(scheduler, 'running')
  const impatient = new AbortController()
  const draining = scheduler.drain({ signal: impatient.signal })
  impatient.abort()
  t.is(await refusal(t, draining), 'cancelled')
})

test('a closed scheduler has ended all leases and left no timer', async (t) => {
  const { scheduler, clock } = start({ slots: 2 })
  const active = await lease(scheduler, 'active')
  const connection = active.begin('connection')
  const fresh = await lease(scheduler, 'fresh')
  const waiting = lease(scheduler, 'waiting')
  waiting.catch(() => {})
  await scheduler[Symbol.asyncDispose]()
  t.true(active.ended.aborted && fresh.ended.aborted)
  t.is(await refusal(t, waiting), 'unavailable')
  connection[Symbol.dispose]()
  t.is(clock.pending, 0)
  t.is(await refusal(t, lease(scheduler, 'late')), 'unavailable')
})

test('on the real clock a silent lease ends by itself', async (t) => {
  const scheduler = createScheduler(
    { log: silentLogger },
    { slots: 1, connectMs: 20, lingerMs: 20 },
  )
  const absent = await lease(scheduler, 'absent')
  const next = await lease(scheduler, 'next')
  t.true(absent.ended.aborted)
  next.begin('connection')[Symbol.dispose]()
  if (!next.ended.aborted) await once(next.ended, 'abort')
  t.is(scheduler.load().slotsUsed, 0)
})

type Step =
  | { type: 'ask'; build: number; project: string }
  | { type: 'give up'; build: number }
  | { type: 'begin'; build: number }
  | { type: 'end'; build: number }
  | { type: 'release'; build: number }
  | { type: 'wait'; byMs: number }

const build = fc.integer({ min: 0, max: 12 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ type: fc.constant('ask' as const), build, project: fc.constantFrom('a', 'b', 'c') }),
  fc.record({ type: fc.constant('give up' as const), build }),
  fc.record({ type: fc.constant('begin' as const), build }),
  fc.record({ type: fc.constant('end' as const), build }),
  fc.record({ type: fc.constant('release' as const), build }),
  fc.record({ type: fc.constant('wait' as const), byMs: fc.integer({ min: 1, max: 40_000 }) }),
)

test('whatever happens, no slot is given twice and none is idle while somebody waits', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(step, { maxLength: 80 }),
      async (slots, steps) => {
        const { scheduler, clock } = start({ slots, queueMax: 5 })
        const held = new Map<number, Lease>()
        const waiting = new Map<number, { leaving: AbortController; position: number }>()
        const activities = new Map<number, Disposable[]>()
        for (const action of steps) {
          switch (action.type) {
            case 'ask': {
              const { build: id } = action
              if (waiting.has(id)) break
              const entry = { leaving: new AbortController(), position: 0 }
              waiting.set(id, entry)
              lease(scheduler, `${id}`, {
                project: action.project,
                signal: entry.leaving.signal,
                onQueued: (position) => {
                  entry.position = position
                },
              })
                .then(
                  (granted) => held.set(id, granted),
                  () => {},
                )
                .finally(() => waiting.delete(id))
              break
            }
            case 'give up':
              waiting.get(action.build)?.leaving.abort()
              break
            case 'begin': {
              const granted = held.get(action.build)
              if (granted === undefined || granted.ended.aborted) break
              const begun = activities.get(action.build) ?? []
              activities.set(action.build, [...begun, granted.begin('test')])
              break
            }
            case 'end':
              activities.get(action.build)?.pop()?.[Symbol.dispose]()
              break
            case 'release':
              held.get(action.build)?.release()
              break
            case 'wait':
              clock.advance(action.byMs)
          }
          await new Promise(setImmediate)
          const { slotsUsed, queued } = scheduler.load()
          const alive = [...held.values()].filter((granted) => !granted.ended.aborted)
          const positions = [...waiting.values()].map(({ position }) => position).sort()
          if (slotsUsed > slots || alive.length !== slotsUsed) return false
          if (queued > 0 && slotsUsed < slots) return false
          if (positions.join() !== Array.from({ length: queued }, (_, n) => n + 1).join())
            return false
        }
        await scheduler[Symbol.asyncDispose]()
        return clock.pending === 0
      },
    ),
    { numRuns: 200 },
  )
  t.pass()
})

test('builds of a scope that is held wait for its end and are told why; others go on', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const hold = scheduler.hold(scope, 'room is made on the disk')
  const told: [number, string][] = []
  const held = lease(scheduler, 'held', {
    onQueued: (...what: [number, string]) => told.push(what),
  })
  const other = await lease(scheduler, 'other', { project: 'other' })
  t.deepEqual(told, [[1, 'room is made on the disk']])
  hold[Symbol.dispose]()
  t.deepEqual(told.at(-1), [1, ''])
  other.release()
  t.is((await held).buildId, 'held')
})

test('a free slot goes past a held build to the next one', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const first = await lease(scheduler, 'first')
  const held = lease(scheduler, 'held')
  const other = lease(scheduler, 'other', { project: 'other' })
  using _hold = scheduler.hold(scope, 'because')
  first.release()
  const granted = await other
  t.is(scheduler.load().queued, 1)
  granted.release()
  t.is(scheduler.load().slotsUsed, 0)
  void held
})

test('a hold that refuses empties the queue and lets nobody in; a build with a lease keeps it', async (t) => {
  const { scheduler } = start({ slots: 2 })
  const running = await lease(scheduler, 'running')
  const hold = scheduler.hold(undefined, 'because')
  const waiting = lease(scheduler, 'waiting')
  hold.refuse(() => new HearthError('exhausted', 'no room'))
  t.is(await refusal(t, waiting), 'exhausted')
  t.is(await refusal(t, lease(scheduler, 'late')), 'exhausted')
  t.is(await lease(scheduler, 'running'), running)
  hold[Symbol.dispose]()
  t.is((await lease(scheduler, 'late')).buildId, 'late')
})

test('stopping ends every lease with the reason, and the queue goes on', async (t) => {
  const { scheduler } = start({ slots: 1 })
  const running = await lease(scheduler, 'running')
  const next = lease(scheduler, 'next')
  const reason = new HearthError('exhausted', 'the disk is full')
  scheduler.stop(reason)
  t.is(running.ended.reason, reason)
  t.is((await next).buildId, 'next')
})
