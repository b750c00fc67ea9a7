import test from 'ava'
import { HearthError } from '../core/errors.ts'
import { silentLogger } from '../core/log.ts'
import { BuildReport, SolveReport } from '../proto/generated/hearth/v1/build.ts'
import { createReportQueue } from './membership-reports.ts'

const limit = () => AbortSignal.timeout(10_000)

function report(buildId: string, ref: string, durationMs = 0): BuildReport {
  const scope = { project: 'app', line: 'main' }
  return BuildReport.create({
    buildId,
    scope,
    solves: [SolveReport.create({ ref, durationMs })],
  })
}

/** A coordinator that is away until it is told to come back. */
function createCoordinatorTwin(failure = away()) {
  const taken: string[] = []
  const tried: string[] = []
  let failing: HearthError | undefined = failure
  const attempted = new Set<() => void>()
  return {
    taken,
    tried,
    comeBack() {
      failing = undefined
    },
    async untilTried(count: number) {
      while (tried.length < count) {
        const { promise, resolve } = Promise.withResolvers<void>()
        attempted.add(resolve)
        await promise
        attempted.delete(resolve)
      }
    },
    async send({ buildId, solves }: BuildReport) {
      const name = `${buildId} ${solves.map(({ ref, durationMs }) => `${ref}:${durationMs}`)}`
      tried.push(name)
      for (const resolve of attempted) resolve()
      if (failing !== undefined) throw failing
      taken.push(name)
    },
  }
}

function away(): HearthError {
  return new HearthError('unavailable', 'nobody is there')
}

test('reports are delivered in order, one solve at a time, and settled when they have arrived', async (t) => {
  const coordinator = createCoordinatorTwin()
  coordinator.comeBack()
  await using queue = createReportQueue({ send: coordinator.send, log: silentLogger })
  const both = report('b1', 'one')
  queue.add({ ...both, solves: [...both.solves, SolveReport.create({ ref: 'two' })] })
  queue.add(report('b2', 'three'))
  await queue.settled('b1', { signal: limit() })
  await queue.settled('b2', { signal: limit() })
  t.deepEqual(coordinator.taken, ['b1 one:0', 'b1 two:0', 'b2 three:0'])
  await queue.settled('of nobody', { signal: limit() })
})

test('while the coordinator is away, what is newest of a solve waits, and arrives once it is back', async (t) => {
  const coordinator = createCoordinatorTwin()
  await using queue = createReportQueue({ send: coordinator.send, log: silentLogger })
  queue.add(report('b1', 'one', 1))
  queue.add(report('b1', 'two', 1))
  await coordinator.untilTried(3)
  queue.add(report('b1', 'one', 2))
  const settled = queue.settled('b1', { signal: limit() })
  coordinator.comeBack()
  queue.wake()
  await settled
  t.deepEqual(coordinator.taken.toSorted(), ['b1 one:2', 'b1 two:1'])
})

test('of too many that wait, the oldest go', async (t) => {
  const coordinator = createCoordinatorTwin()
  await using queue = createReportQueue(
    { send: coordinator.send, log: silentLogger },
    { waitingMax: 3 },
  )
  for (const ref of ['one', 'two', 'three', 'four', 'five']) queue.add(report('b1', ref))
  queue.add(report('b1', 'three', 7))
  coordinator.comeBack()
  queue.wake()
  await queue.settled('b1', { signal: limit() })
  t.deepEqual(coordinator.taken.toSorted(), ['b1 five:0', 'b1 four:0', 'b1 three:7'])
})

test('a report that the coordinator refuses is not sent again', async (t) => {
  const refusal = new HearthError('forbidden', 'of another scope')
  const coordinator = createCoordinatorTwin(refusal)
  await using queue = createReportQueue({ send: coordinator.send, log: silentLogger })
  queue.add(report('b1', 'one'))
  await queue.settled('b1', { signal: limit() })
  t.deepEqual(coordinator.tried, ['b1 one:0'])
})

test('waiting for reports can be given up', async (t) => {
  const coordinator = createCoordinatorTwin()
  await using queue = createReportQueue(
    { send: coordinator.send, log: silentLogger },
    { closeMs: 0 },
  )
  queue.add(report('b1', 'one'))
  await t.throwsAsync(queue.settled('b1', { signal: AbortSignal.abort() }))
  const stop = new AbortController()
  const waiting = queue.settled('b1', { signal: stop.signal })
  stop.abort(new HearthError('deadline', 'long enough'))
  await t.throwsAsync(waiting, { message: 'long enough' })
})

test('closing delivers what can still be delivered, and ends in time when nothing can', async (t) => {
  const coordinator = createCoordinatorTwin()
  const queue = createReportQueue({ send: coordinator.send, log: silentLogger })
  queue.add(report('b1', 'one'))
  coordinator.comeBack()
  await queue[Symbol.asyncDispose]()
  t.deepEqual(coordinator.taken, ['b1 one:0'])

  const gone = createCoordinatorTwin()
  const stuck = createReportQueue({ send: gone.send, log: silentLogger }, { closeMs: 20 })
  stuck.add(report('b1', 'one'))
  await stuck[Symbol.asyncDispose]()
  t.deepEqual(gone.taken, [])
})
