import test from 'ava'
import type { Settled } from '../../node/buildkit-runner/records/index.ts'
import { KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const { KEEP_OUTCOME_KEPT, KEEP_OUTCOME_PENDING } = KeepOutcome

test('a cache is pending until a second place has it, and neither slot nor client wait for that', async (t) => {
  const asked: ((settled: Settled) => void)[] = []
  const builder = await startBuilder({
    slots: 1,
    settled: (_scope, _fragment, { signal }) => {
      const { promise, resolve } = Promise.withResolvers<Settled>()
      asked.push(resolve)
      signal.addEventListener('abort', () => {
        resolve({ type: 'kept here only', reason: 'the node stops' })
      })
      return promise
    },
  })
  t.teardown(() => builder[Symbol.asyncDispose]())
  const build = async (line: string) => {
    await using context = await createContext(`RUN echo ${line} > /${line}`)
    const { exitCode, stderr } = await builder.through.buildx(clientKinds.buildx(context.path))
    t.is(exitCode, 0, stderr)
  }
  // Each has the only slot while the cache of the one before is still pending.
  await build('first')
  await build('second')
  await build('third')
  const refs = [...new Set(builder.reports.map(({ ref }) => ref))]
  t.is(refs.length, 3)
  const ofFirst = builder.reports.filter(({ ref }) => ref === refs[0])
  t.deepEqual(
    ofFirst.map(({ keep }) => keep),
    [KEEP_OUTCOME_PENDING],
  )

  asked[0]?.({ type: 'kept' })
  const kept = await builder.settled()
  t.like(kept, { ref: refs[0] ?? '', keep: KEEP_OUTCOME_KEPT, keepReason: '' })
  const reason = 'no other node is connected'
  asked[1]?.({ type: 'kept here only', reason })
  const alone = await builder.settled()
  t.like(alone, { ref: refs[1] ?? '', keep: KEEP_OUTCOME_KEPT, keepReason: reason })
  // A node that stops says so, and waits for nothing.
  await builder[Symbol.asyncDispose]()
  t.like(builder.reports.at(-1), { ref: refs[2] ?? '', keepReason: 'the node stops' })
})
