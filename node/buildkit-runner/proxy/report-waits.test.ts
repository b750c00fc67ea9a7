import test from 'ava'
import { createReportWaits } from './report-waits.ts'

const soon = () => ({ signal: AbortSignal.timeout(10_000) })

async function isSettled(promise: Promise<void>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<false>((r) => setImmediate(r, false))])
}

test('a question waits until every report that was announced has been made', async (t) => {
  const waits = createReportWaits()
  const one = waits.announce('b')
  const two = waits.announce('b')
  const asked = waits.reported('b', soon())
  one[Symbol.dispose]()
  t.false(await isSettled(asked))
  two[Symbol.dispose]()
  await asked
  t.pass()
})

test('a report that is said to be made twice does not answer for the next solve', async (t) => {
  const waits = createReportWaits()
  const first = waits.announce('b')
  first[Symbol.dispose]()
  const second = waits.announce('b')
  first[Symbol.dispose]()
  const asked = waits.reported('b', soon())
  t.false(await isSettled(asked))
  second[Symbol.dispose]()
  await asked
})

test('nothing announced, nothing to wait for', async (t) => {
  await createReportWaits().reported('b', soon())
  t.pass()
})

test('whoever asks may give up', async (t) => {
  const waits = createReportWaits()
  using _ahead = waits.announce('b')
  const asking = new AbortController()
  const asked = waits.reported('b', { signal: asking.signal })
  asking.abort(new Error('enough'))
  await t.throwsAsync(asked, { message: 'enough' })
})
