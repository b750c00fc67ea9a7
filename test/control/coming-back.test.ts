import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import type { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { joinCoordinator } from '../../node/membership.ts'
import { BuildOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { createTemporaryFolder } from '../harness/temporary-folder.ts'
import {
  codeOf,
  connectTestClient,
  eventually,
  limit,
  never,
  reportFrom,
  solveReport,
  startAll,
  startTestCoordinator,
  startTestNode,
} from './parts.ts'

test('after a restart of the coordinator nodes come back, builds go on and late reports arrive', async (t) => {
  await using folder = await createTemporaryFolder('restart')
  const coordinatorFolder = path.join(folder.path, 'coordinator')
  const first = await startTestCoordinator(coordinatorFolder)
  await using node = await startTestNode({
    coordinator: first,
    joinToken: await first.newJoinToken(),
    folder: path.join(folder.path, 'node'),
  })
  await node.membership.heard({ signal: limit() })
  let buildId: string
  {
    using client = connectTestClient(first, first.adminToken)
    buildId = (await client.open()).buildId
    await client.placed(buildId)
  }
  await first[Symbol.asyncDispose]()
  reportFrom(node, buildId, solveReport('while-away'))

  await using second = await startTestCoordinator(coordinatorFolder, { port: first.port })
  t.is(second.caPem, first.caPem)
  t.is(second.adminToken, first.adminToken)
  using client = connectTestClient(second, second.adminToken)
  // At once: the coordinator waits for the node's next call instead of saying that there is none.
  const next = await client.open()
  t.is((await client.placed(next.buildId)).length, 1)
  const { build } = await client.finish(buildId)
  t.deepEqual(
    build?.solves.map(({ ref }) => ref),
    ['while-away'],
  )
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_SUCCEEDED)
  t.deepEqual(
    (await client.nodes()).nodes.map(({ id, online }) => [id, online]),
    [[node.id, true]],
  )
})

test('a node that starts again is the same node, without a new join token', async (t) => {
  await using all = await startAll()
  const options = { coordinator: all.coordinator, folder: path.join(all.folder, 'second') }
  const first = await startTestNode({ ...options, joinToken: await all.coordinator.newJoinToken() })
  await first.membership.heard({ signal: limit() })
  await first[Symbol.asyncDispose]()
  await using again = await startTestNode({ ...options, joinToken: undefined, name: 'renamed' })
  await again.membership.heard({ signal: limit() })
  t.is(again.id, first.id)
  const { nodes } = await all.client.nodes()
  t.is(nodes.length, 2)
  t.is(nodes.find(({ id }) => id === again.id)?.name, 'renamed')
})

test('a node renews its certificate early, and goes on with the new one', async (t) => {
  await using all = await startAll()
  const file = path.join(all.folder, 'second', 'identity', 'identity.json')
  const options = { coordinator: all.coordinator, folder: path.join(all.folder, 'second') }
  const joined = await startTestNode({
    ...options,
    joinToken: await all.coordinator.newJoinToken(),
  })
  await joined[Symbol.asyncDispose]()
  const kept = JSON.parse(await readFile(file, 'utf8'))
  const certificateOf = async () => JSON.parse(await readFile(file, 'utf8')).certificate
  // Beyond a third of its life: the node renews at the announcement, and once more whenever it is due.
  kept.certificate.issuedAtMs -= 3 * 24 * 60 * 60_000
  await writeFile(file, JSON.stringify(kept))
  await using node = await startTestNode({ ...options, joinToken: undefined })
  await node.membership.heard({ signal: limit() })
  const renewed = await certificateOf()
  t.not(renewed.certificatePem, kept.certificate.certificatePem)
  t.is(node.membership.identity().certificatePem, renewed.certificatePem)
  const { buildId } = await all.client.open()
  t.is((await all.client.placed(buildId)).length, 1)
})

test('a node that says nothing for three heartbeats is offline, and builds are told so', async (t) => {
  await using all = await startAll({ heartbeatMs: 50 })
  await all.node[Symbol.asyncDispose]()
  const { nodes } = await eventually(all.client.nodes, (reply) => reply.nodes[0]?.online === false)
  t.true(Date.now() - Number(nodes[0]?.lastSeenAt) >= 150)
  const error = await t.throwsAsync<HearthError>(all.client.open({ platforms: ['linux/amd64'] }))
  t.is(error?.code, 'unavailable')
  t.regex(error?.message ?? '', /every node for linux\/amd64 is offline/)
})

test('a node that went while its coordinator thinks it is there costs an error, not a hanging build', async (t) => {
  await using all = await startAll({ heartbeatMs: 5_000 })
  const { buildId } = await all.client.open()
  await all.node[Symbol.asyncDispose]()
  t.is(await codeOf(t, all.client.placed(buildId)), 'unavailable')
  const { build } = await all.client.finish(buildId, BuildOutcome.BUILD_OUTCOME_FAILED)
  t.is(build?.outcome, BuildOutcome.BUILD_OUTCOME_FAILED)
})

test('a queue at a node that goes away ends the placing with an error', async (t) => {
  await using all = await startAll({ scheduler: { slots: 1 } })
  const [first, second] = [await all.client.open(), await all.client.open()]
  await all.client.placed(first.buildId)
  const events = all.client.place(second.buildId)[Symbol.asyncIterator]()
  await events.next()
  await all.node[Symbol.asyncDispose]()
  t.is(await codeOf(t, events.next()), 'unavailable')
})

test('a node waits for a coordinator that is not up yet', async (t) => {
  await using folder = await createTemporaryFolder('early')
  const coordinatorFolder = path.join(folder.path, 'coordinator')
  const before = await startTestCoordinator(coordinatorFolder)
  const joinToken = await before.newJoinToken()
  await before[Symbol.asyncDispose]()
  const joining = startTestNode({
    coordinator: before,
    joinToken,
    folder: path.join(folder.path, 'node'),
  })
  await using _coordinator = await startTestCoordinator(coordinatorFolder, { port: before.port })
  await using node = await joining
  await node.membership.heard({ signal: limit() })
  t.regex(node.id, /^[a-z2-7]{12}$/)
})

const joining = (coordinator: { address: string; caPem: string }, folder: string) => ({
  folder,
  coordinatorAddress: coordinator.address,
  caPem: coordinator.caPem,
  name: 'n',
  platform: 'linux/amd64',
  version: '0.1.0',
  signal: limit(),
})

test('a node is not let in without a token, with a wrong one, or by a coordinator it cannot trust', async (t) => {
  await using all = await startAll()
  await using elsewhere = await startAll()
  const deps = { log: silentLogger }
  const folder = path.join(all.folder, 'stranger')
  const base = joining(all.coordinator, folder)
  const none = await t.throwsAsync<HearthError>(
    joinCoordinator(deps, { ...base, joinToken: undefined }),
  )
  t.is(none?.code, 'unauthenticated')
  t.regex(none?.hint ?? '', /join token/)
  t.is(await codeOf(t, joinCoordinator(deps, { ...base, joinToken: 'hth_x_y' })), 'unauthenticated')
  const joinToken = await all.coordinator.newJoinToken()
  const signal = AbortSignal.timeout(500)
  const { caPem } = elsewhere.coordinator
  await t.throwsAsync(joinCoordinator(deps, { ...base, caPem, joinToken, signal }))
  t.is(
    await codeOf(t, joinCoordinator(deps, { ...base, caPem: 'no PEM', joinToken })),
    'invalid-input',
  )
  await using membership = await joinCoordinator(deps, { ...base, joinToken })
  t.truthy(membership.nodeId)
})

test('a node that changes to another coordinator joins it anew', async (t) => {
  await using all = await startAll()
  await using other = await startAll()
  const folder = path.join(all.folder, 'mover')
  const deps = { log: silentLogger }
  const first = await joinCoordinator(deps, {
    ...joining(all.coordinator, folder),
    joinToken: await all.coordinator.newJoinToken(),
  })
  await first[Symbol.asyncDispose]()
  const moved = joining(other.coordinator, folder)
  t.is(
    await codeOf(t, joinCoordinator(deps, { ...moved, joinToken: undefined })),
    'unauthenticated',
  )
  const joinToken = await other.coordinator.newJoinToken()
  await using second = await joinCoordinator(deps, { ...moved, joinToken })
  t.not(second.nodeId, first.nodeId)
})

test('what waits for the coordinator is let go when it is given up', async (t) => {
  await using folder = await createTemporaryFolder('given-up')
  const gone = await startTestCoordinator(path.join(folder.path, 'coordinator'))
  const joinToken = await gone.newJoinToken()
  await gone[Symbol.asyncDispose]()
  const stop = new AbortController()
  const waiting = joinCoordinator(
    { log: silentLogger },
    { ...joining(gone, path.join(folder.path, 'node')), joinToken, signal: stop.signal },
  )
  stop.abort()
  await t.throwsAsync(waiting)
})

test('one folder has one coordinator, and a taken port and a newer folder are said plainly', async (t) => {
  await using all = await startAll()
  const inUse = await t.throwsAsync<HearthError>(startTestCoordinator(all.coordinatorFolder))
  t.is(inUse?.code, 'environment')
  t.regex(inUse?.message ?? '', /is in use by a coordinator \(process \d+\)/)

  const folder = path.join(all.folder, 'another')
  const { port } = all.coordinator
  const taken = await t.throwsAsync<HearthError>(startTestCoordinator(folder, { port }))
  t.is(taken?.code, 'environment')
  t.is(taken?.message, `127.0.0.1:${port} is taken`)
  await (await startTestCoordinator(folder))[Symbol.asyncDispose]()

  await writeFile(path.join(folder, 'format.json'), '{"kind":"coordinator","version":2}')
  const newer = await t.throwsAsync<HearthError>(startTestCoordinator(folder))
  t.is(newer?.code, 'version')
  t.is(
    await readFile(path.join(folder, 'format.json'), 'utf8'),
    '{"kind":"coordinator","version":2}',
  )
})

test('a start that is given up leaves the folder free', async (t) => {
  await using folder = await createTemporaryFolder('given-up')
  const { startCoordinator } = await import('../../coordinator/main.ts')
  const options = { folder: folder.path, listen: { host: '127.0.0.1', port: 0 }, log: silentLogger }
  await t.throwsAsync(startCoordinator({ ...options, signal: AbortSignal.abort() }))
  await using coordinator = await startCoordinator({ ...options, signal: never })
  t.true(coordinator.port > 0)
})
