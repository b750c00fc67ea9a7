/** A node that ends without a word owes the caches it had not kept yet, and the builds it was running. */
import path from 'node:path'
import test from 'ava'
import { BuildOutcome, Cause, Failure, KeepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { eventually, limit, reportFrom, solveReport, startAll, startTestNode } from './parts.ts'

const pending = { keep: KeepOutcome.KEEP_OUTCOME_PENDING }
const kept = { keep: KeepOutcome.KEEP_OUTCOME_KEPT }

test('what a node had still to keep when it ended is lost, with the reason', async (t) => {
  await using all = await startAll()
  const { buildId } = await all.client.open()
  await all.client.placed(buildId)
  reportFrom(all.node, buildId, solveReport('one', pending), solveReport('two', kept))
  await all.client.finish(buildId)
  await eventually(
    () => all.client.get(buildId),
    ({ build }) => build?.solves.length === 2,
  )
  await all.node[Symbol.asyncDispose]()
  await using again = await startTestNode({
    coordinator: all.coordinator,
    joinToken: undefined,
    folder: path.join(all.folder, 'node'),
  })
  await again.membership.heard({ signal: limit() })
  const { build } = await eventually(
    () => all.client.get(buildId),
    (reply) => reply.build?.solves.every(({ keep }) => keep !== pending.keep) === true,
  )
  const told = build?.solves.map(({ ref, keep, keepReason }) => ({ ref, keep, keepReason }))
  t.deepEqual(
    told?.sort((a, b) => (a.ref < b.ref ? -1 : 1)),
    [
      {
        ref: 'one',
        keep: KeepOutcome.KEEP_OUTCOME_LOST,
        keepReason: 'the node ended before the cache was kept',
      },
      { ref: 'two', ...kept, keepReason: '' },
    ],
  )
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.is(build?.failure, undefined)
})

test('a build whose node ended and came back fails by that', async (t) => {
  await using all = await startAll()
  const { buildId } = await all.client.open()
  await all.client.placed(buildId)
  await all.node[Symbol.asyncDispose]()
  await using again = await startTestNode({
    coordinator: all.coordinator,
    joinToken: undefined,
    folder: path.join(all.folder, 'node'),
  })
  await again.membership.heard({ signal: limit() })
  const { build } = await all.client.finish(buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  t.is(build?.failure?.cause, Cause.CAUSE_NODE_LOST)
  t.regex(build?.failure?.text ?? '', /the node .* ended during the build, and has started again/)
})

test('of several solves the one that failed tells the cause, not those cancelled beside it', async (t) => {
  await using all = await startAll()
  const { buildId } = await all.client.open()
  await all.client.placed(buildId)
  const failing = (ref: string, cause: Cause, startedAtMs: number) =>
    solveReport(ref, {
      outcome: BuildOutcome.BUILD_OUTCOME_FAILED,
      startedAt: new Date(startedAtMs),
      failure: Failure.fromPartial({ cause, text: ref }),
    })
  reportFrom(
    all.node,
    buildId,
    failing('beside', Cause.CAUSE_CLIENT_CANCELLED, 1_000),
    failing('first', Cause.CAUSE_OUT_OF_MEMORY, 2_000),
    failing('second', Cause.CAUSE_STEP_FAILED, 3_000),
  )
  const { build } = await eventually(
    () => all.client.finish(buildId, BuildOutcome.BUILD_OUTCOME_FAILED),
    (reply) => reply.build?.solves.length === 3,
  )
  t.is(build?.failure?.text, 'first')
})
