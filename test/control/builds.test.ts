import { X509Certificate } from 'node:crypto'
import path from 'node:path'
import test from 'ava'
import type { HearthError } from '../../core/errors.ts'
import { identityOfCertificate } from '../../core/identity.ts'
import { makeScope } from '../../core/scope.ts'
import {
  BuildOutcome,
  KeepOutcome,
  StepOutcome,
  StepPrediction,
} from '../../proto/generated/hearth/v1/build.ts'
import {
  codeOf,
  eventually,
  limit,
  reportFrom,
  solveReport,
  startAll,
  startTestNode,
} from './parts.ts'

test('a build is opened, placed and finished, and its report is there with the answer', async (t) => {
  await using all = await startAll()
  const { client, node } = all
  const opened = await client.open({ platforms: ['linux/amd64'] })
  t.regex(opened.buildId, /^[a-z2-7]{12}$/)
  t.deepEqual(opened.scope, makeScope('app', 'main'))
  t.false(opened.planWanted)
  t.is(opened.planner?.nodeId, node.id)

  const events = await client.placed(opened.buildId)
  t.is(events.length, 1)
  const placement = events[0]?.$case === 'placement' ? events[0].value : t.fail()
  t.deepEqual(placement?.platforms, ['linux/amd64'])
  t.is(placement?.reason, 'the only node for linux/amd64')
  t.is(placement?.endpoint?.nodeId, node.id)
  t.is(placement?.endpoint?.serverName, `${node.id}.node.hearth.internal`)
  const certificate = new X509Certificate(placement?.endpoint?.clientCertificatePem ?? '')
  t.true(certificate.checkPrivateKey(client.key))
  t.deepEqual(identityOfCertificate(certificate.subjectAltName), {
    type: 'client',
    scope: makeScope('app', 'main'),
    buildId: opened.buildId,
  })
  t.is(node.scheduler.find(opened.buildId)?.scope.project, 'app')

  reportFrom(
    node,
    opened.buildId,
    solveReport('solve-1', { keep: KeepOutcome.KEEP_OUTCOME_PENDING }),
  )
  const { build } = await client.finish(opened.buildId)
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.is(build?.durationMs, 1_234)
  t.deepEqual(build?.nodeIds, [node.id])
  t.deepEqual(
    build?.solves.map(({ ref }) => ref),
    ['solve-1'],
  )
  t.is(node.scheduler.find(opened.buildId), undefined, 'the slot has gone back')
})

test('the certificates of a standby are for the scope alone and live for a day', async (t) => {
  await using all = await startAll()
  const { standby } = await all.client.open()
  const [endpoint] = standby?.endpoints ?? []
  const certificate = new X509Certificate(endpoint?.clientCertificatePem ?? '')
  t.deepEqual(identityOfCertificate(certificate.subjectAltName), {
    type: 'client',
    scope: makeScope('app', 'main'),
    buildId: undefined,
  })
  const dayMs = 24 * 60 * 60_000
  const leftMs = Date.parse(certificate.validTo) - Date.now()
  t.true(leftMs > dayMs - 60_000 && leftMs <= dayMs + 1_000)
  t.is(endpoint?.expiresAt?.getTime(), Date.parse(certificate.validTo))
})

test('a build that has to wait is told its place, and the next one when it changes', async (t) => {
  await using all = await startAll({ scheduler: { slots: 1 } })
  const { client, node } = all
  const [first, second, third] = [await client.open(), await client.open(), await client.open()]
  await client.placed(first.buildId)

  const secondEvents = client.place(second.buildId)[Symbol.asyncIterator]()
  t.like((await secondEvents.next()).value, { $case: 'queued', value: { position: 1 } })
  const thirdEvents = client.place(third.buildId)[Symbol.asyncIterator]()
  t.like((await thirdEvents.next()).value, {
    $case: 'queued',
    value: { position: 2, nodeId: node.id },
  })
  await client.finish(first.buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  t.is((await secondEvents.next()).value?.$case, 'placement')
  t.like((await thirdEvents.next()).value, { $case: 'queued', value: { position: 1 } })
  await client.finish(second.buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  t.is((await thirdEvents.next()).value?.$case, 'placement')
  t.true((await thirdEvents.next()).done)
})

test('a client that leaves the queue gives its place up', async (t) => {
  await using all = await startAll({ scheduler: { slots: 1 } })
  const { client, node } = all
  const [first, second] = [await client.open(), await client.open()]
  await client.placed(first.buildId)
  const leaving = new AbortController()
  const waiting = client.place(second.buildId, leaving.signal)[Symbol.asyncIterator]()
  await waiting.next()
  t.is(node.scheduler.load().queued, 1)
  leaving.abort()
  t.is(await codeOf(t, waiting.next()), 'cancelled')
  await eventually(
    () => node.scheduler.load().queued,
    (queued) => queued === 0,
  )
  t.not(node.scheduler.find(first.buildId), undefined, 'who was served before keeps its slot')
})

test('a report replaces what was said of the same solve, however often it comes', async (t) => {
  await using all = await startAll()
  const { client, node } = all
  const { buildId } = await client.open()
  await client.placed(buildId)
  const pending = solveReport('solve-1', { keep: KeepOutcome.KEEP_OUTCOME_PENDING })
  reportFrom(node, buildId, pending, solveReport('solve-2'))
  reportFrom(node, buildId, pending)
  await client.finish(buildId)
  const kept = { ...pending, keep: KeepOutcome.KEEP_OUTCOME_KEPT, cacheBytesKept: 99 }
  reportFrom(node, buildId, kept)
  await node.membership.settled(buildId, { signal: limit() })
  const { build } = await client.get(buildId)
  t.deepEqual(
    build?.solves.map(({ ref, keep, cacheBytesKept }) => [ref, keep, cacheBytesKept]),
    [
      ['solve-1', KeepOutcome.KEEP_OUTCOME_KEPT, 99],
      ['solve-2', KeepOutcome.KEEP_OUTCOME_UNSPECIFIED, 0],
    ],
  )
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
})

test('a reused step saves what it took when it last ran in that project', async (t) => {
  await using all = await startAll()
  const { client, node } = all
  const step = (outcome: StepOutcome, durationMs: number) => ({
    name: '[2/2] RUN make',
    operationDigest: 'sha256:make',
    dockerfile: 'Dockerfile',
    firstLine: 2,
    lastLine: 2,
    outcome,
    durationMs,
    lastRanMs: 0,
    error: '',
    platform: 'linux/amd64',
    key: '',
    predicted: StepPrediction.STEP_PREDICTION_UNSPECIFIED,
  })
  const run = async (steps: ReturnType<typeof step>[]) => {
    const { buildId } = await client.open()
    await client.placed(buildId)
    reportFrom(node, buildId, solveReport('solve-1', { steps }))
    return (await client.finish(buildId)).build
  }
  const unknown = { ...step(StepOutcome.STEP_OUTCOME_REUSED, 3), operationDigest: 'sha256:new' }
  const first = await run([step(StepOutcome.STEP_OUTCOME_RAN, 40_000), unknown])
  t.like(first, { stepsReused: 1, stepsTotal: 2, savedMs: 0 })
  const second = await run([step(StepOutcome.STEP_OUTCOME_REUSED, 3), unknown])
  t.like(second, { stepsReused: 2, stepsTotal: 2, savedMs: 40_000 })
  t.is(second?.solves[0]?.steps[0]?.lastRanMs, 40_000)
  await run([step(StepOutcome.STEP_OUTCOME_FAILED, 99_000)])
  t.like(await run([step(StepOutcome.STEP_OUTCOME_REUSED, 3)]), { savedMs: 40_000 })
})

test('builds are listed newest first without their steps, and found by the beginning of the id', async (t) => {
  await using all = await startAll()
  const { client, node } = all
  const [first, second] = [await client.open(), await client.open({ project: 'other' })]
  reportFrom(node, first.buildId, solveReport('solve-1'))
  await node.membership.settled(first.buildId, { signal: limit() })
  const ids = async (request?: { project?: string; limit?: number }) =>
    (await client.list(request)).builds.map(({ id }) => id)
  t.deepEqual(await ids(), [second.buildId, first.buildId])
  t.deepEqual(await ids({ project: 'app' }), [first.buildId])
  t.deepEqual(await ids({ limit: 1 }), [second.buildId])
  t.deepEqual(
    (await client.list()).builds.map(({ solves }) => solves.length),
    [0, 0],
  )
  const { build } = await client.get(first.buildId.slice(0, 8))
  t.is(build?.id, first.buildId)
  t.is(build?.solves.length, 1)
  t.is(await codeOf(t, client.get('')), 'not-found')
  t.is(await codeOf(t, client.get('zz1')), 'not-found')
})

test('finishing twice answers the same, and a build that is over is not placed again', async (t) => {
  await using all = await startAll()
  const { client } = all
  const { buildId } = await client.open()
  await client.finish(buildId, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  const again = await client.finish(buildId, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.is(again.build?.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  t.is(await codeOf(t, client.placed(buildId)), 'invalid-input')
  t.is(await codeOf(t, client.finish(buildId, BuildOutcome.BUILD_OUTCOME_LOST)), 'invalid-input')
  t.is(await codeOf(t, client.finish('nosuchbuild')), 'not-found')
})

test('a build whose client went without a word ends by itself, as its node saw it', async (t) => {
  await using all = await startAll({ upkeepMs: 50, scheduler: { connectMs: 200 } })
  const { client, node } = all
  const [silent, cancelled] = [await client.open(), await client.open()]
  await client.placed(silent.buildId)
  await client.placed(cancelled.buildId)
  const outcome = BuildOutcome.BUILD_OUTCOME_CANCELLED
  reportFrom(node, cancelled.buildId, solveReport('solve-1', { outcome }))
  const ended = (buildId: string) =>
    eventually(
      async () => (await client.get(buildId)).build,
      (build) => build?.finishedAt !== undefined,
    )
  t.is((await ended(silent.buildId))?.outcome, BuildOutcome.BUILD_OUTCOME_LOST)
  t.is((await ended(cancelled.buildId))?.outcome, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  const late = await client.finish(silent.buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  t.is(late.build?.outcome, BuildOutcome.BUILD_OUTCOME_FAILED, "the client's word counts")
})

test('a build in progress is not taken for lost', async (t) => {
  await using all = await startAll({ upkeepMs: 20 })
  const { client, node } = all
  const { buildId } = await client.open()
  await client.placed(buildId)
  using _solve = node.scheduler.find(buildId)?.begin('solve') ?? t.fail('no lease')
  let looks = 0
  await eventually(
    async () => {
      looks += 1
      return (await client.get(buildId)).build
    },
    (build) => build?.finishedAt !== undefined || looks === 30,
  )
  t.is((await client.get(buildId)).build?.finishedAt, undefined)
})

test('a build made with a standby certificate gets into the history by its report', async (t) => {
  await using all = await startAll()
  const { client, node } = all
  const startedAt = new Date(Date.now() - 60_000)
  const buildId = 'standby-0d1e7a54-6d53-4f0c-9d0c-000000000000'
  reportFrom(node, buildId, solveReport('solve-1', { startedAt, durationMs: 5_000 }))
  await node.membership.settled(buildId, { signal: limit() })
  const { build } = await client.get(buildId)
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.is(build?.durationMs, 5_000)
  t.deepEqual(build?.openedAt, startedAt)
})

test('a platform that no node builds is refused when the build is opened', async (t) => {
  await using all = await startAll()
  const error = await t.throwsAsync<HearthError>(
    all.client.open({ platforms: ['linux/amd64', 'linux/riscv64'] }),
  )
  t.is(error?.code, 'invalid-input')
  t.is(error?.message, 'no node builds linux/riscv64 natively')
  t.is(error?.hint, 'the nodes build linux/amd64')
})

test('a build for two platforms gets a node for each, and the plan is wanted where there is a choice', async (t) => {
  await using all = await startAll({ name: 'amd' })
  const { client, coordinator, folder } = all
  const start = async (name: string, platform: string) =>
    startTestNode({
      coordinator,
      joinToken: await coordinator.newJoinToken(),
      folder: path.join(folder, name),
      name,
      platform,
    })
  await using arm = await start('arm', 'linux/arm64')
  await arm.membership.heard({ signal: limit() })
  const platforms = ['linux/arm64', 'linux/amd64/v3', 'linux/amd64']
  const opened = await client.open({ platforms })
  t.false(opened.planWanted)
  t.is(opened.standby?.endpoints.length, 2)
  const events = await client.placed(opened.buildId)
  t.deepEqual(
    events.map((event) =>
      event?.$case === 'placement' ? [event.value.platforms, event.value.endpoint?.nodeId] : event,
    ),
    [
      [['linux/amd64/v3', 'linux/amd64'], all.node.id],
      [['linux/arm64'], arm.id],
    ],
  )
  await using second = await start('arm-two', 'linux/arm64')
  await second.membership.heard({ signal: limit() })
  t.true((await client.open({ platforms })).planWanted)
})

test('when the chosen node gives no slot, the next one does', async (t) => {
  await using all = await startAll({ name: 'first' })
  const { client, coordinator, folder } = all
  await using second = await startTestNode({
    coordinator,
    joinToken: await coordinator.newJoinToken(),
    folder: path.join(folder, 'second'),
    name: 'second',
  })
  await second.membership.heard({ signal: limit() })
  const first = await client.open()
  const [placed] = await client.placed(first.buildId)
  const chosenId = placed?.$case === 'placement' ? placed.value.endpoint?.nodeId : ''
  await client.finish(first.buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  const [chosen, other] = chosenId === second.id ? [second, all.node] : [all.node, second]
  // It refuses from this moment on; the coordinator may not have heard of it yet.
  await chosen.scheduler.drain({ signal: limit() })
  const next = await client.open()
  const [event] = await client.placed(next.buildId)
  t.is(event?.$case === 'placement' ? event.value.endpoint?.nodeId : '', other.id)
})
