import test from 'ava'
import { digestOf } from '../../core/digest.ts'
import { callStream, callUnary } from '../../core/grpc-call.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import type {
  CacheUsageReply,
  CreateProjectReply,
  CreateTokenReply,
  ListProjectsReply,
  ResetCacheReply,
  VerifyCacheEvent,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import {
  codeOf,
  connectTestClient,
  eventually,
  limit,
  startAll,
  type TestClient,
  type TestNode,
} from './parts.ts'

const main = makeScope('app', 'main')
const fork = makeScope('app', 'fork-1')
const other = makeScope('other', 'main')

async function put(node: TestNode, scope: Scope, text: string): Promise<void> {
  await using writer = await node.store.createWriter(scope)
  await writer.write(Buffer.from(text))
  await writer.commit(digestOf(text))
}

const settings = (client: TestClient) => ({ metadata: client.metadata, signal: limit() })

const usage = (client: TestClient, project = '') =>
  callUnary<CacheUsageReply>(
    'usage',
    (sent, options, done) => client.admin.cacheUsage({ project }, sent, options, done),
    settings(client),
  )

const reset = (client: TestClient, project: string) =>
  callUnary<ResetCacheReply>(
    'reset',
    (sent, options, done) => client.admin.resetCache({ project }, sent, options, done),
    settings(client),
  )

const verify = (client: TestClient, project = '') =>
  Array.fromAsync(
    callStream<VerifyCacheEvent>(
      'verify',
      (sent, options) => client.admin.verifyCache({ project }, sent, options),
      { ...settings(client), timeoutMs: 20_000 },
    ),
  )

async function tokenOf(client: TestClient, scope: Scope): Promise<string> {
  const reply = await callUnary<CreateTokenReply>(
    'create a token',
    (sent, options, done) =>
      client.admin.createToken({ ...scope, description: '', join: false }, sent, options, done),
    settings(client),
  )
  return reply.token
}

test('usage adds up the store and the BuildKit state of every scope', async (t) => {
  await using all = await startAll({ daemonScopes: [main, other] })
  await put(all.node, main, 'one')
  await put(all.node, fork, 'one')
  const { nodes } = await usage(all.client)
  t.is(nodes[0]?.nodeId, all.node.id)
  t.is(nodes[0]?.storeBytes, 3)
  t.true((nodes[0]?.diskFreeBytes ?? 0) > 0)
  t.deepEqual(
    nodes[0]?.scopes.map(({ scope, blobs, bytes, buildkitBytes }) => ({
      ...scope,
      blobs,
      bytes,
      buildkitBytes,
    })),
    [
      { ...fork, blobs: 1, bytes: 3, buildkitBytes: 0 },
      { ...main, blobs: 1, bytes: 3, buildkitBytes: 1_000 },
      { ...other, blobs: 0, bytes: 0, buildkitBytes: 1_000 },
    ],
  )
  using client = connectTestClient(all.coordinator, await tokenOf(all.client, other))
  t.deepEqual(
    (await usage(client)).nodes[0]?.scopes.map(({ scope }) => scope),
    [other],
  )
  t.is(await codeOf(t, usage(client, 'app')), 'forbidden')
})

test('a verification reads everything back and ends with a summary', async (t) => {
  await using all = await startAll()
  await put(all.node, main, 'one')
  await put(all.node, other, 'another')
  const events = await verify(all.client)
  const last = events.at(-1)
  t.is(last?.nodeId, all.node.id)
  t.deepEqual(last?.event?.event, { $case: 'summary', value: { blobs: 2, bytes: 10, findings: 0 } })
  const ofProject = await verify(all.client, 'app')
  t.like(ofProject.at(-1)?.event?.event, { value: { blobs: 1, bytes: 3 } })
})

test('a reset forgets a project in all its lines and leaves the others', async (t) => {
  await using all = await startAll({ daemonScopes: [main, other] })
  await put(all.node, main, 'one')
  await put(all.node, fork, 'fork')
  await put(all.node, other, 'another')
  using forked = connectTestClient(all.coordinator, await tokenOf(all.client, fork))
  t.is(await codeOf(t, reset(forked, 'app')), 'forbidden')
  t.is(await codeOf(t, reset(all.client, '')), 'invalid-input')
  const { bytesFreed } = await reset(all.client, 'app')
  t.is(bytesFreed, 1_007)
  t.deepEqual(all.node.daemonsReset, [main])
  t.deepEqual([...all.node.store.usage().scopes.keys()], ['other/main'])
})

test('half a verification or reset is an error, not an answer', async (t) => {
  await using all = await startAll({ heartbeatMs: 20 })
  await all.node[Symbol.asyncDispose]()
  await eventually(all.client.nodes, ({ nodes }) => nodes[0]?.online === false)
  t.is(await codeOf(t, verify(all.client)), 'unavailable')
  t.is(await codeOf(t, reset(all.client, 'app')), 'unavailable')
  t.deepEqual((await usage(all.client)).nodes, [])
})

test("a project's policy reaches the nodes with their next heartbeat", async (t) => {
  await using all = await startAll({ heartbeatMs: 20 })
  const create = (policy: { bytesMax: number; daysMax: number } | undefined) =>
    callUnary<CreateProjectReply>(
      'create the project',
      (sent, options, done) =>
        all.client.admin.createProject({ name: 'app', policy }, sent, options, done),
      settings(all.client),
    )
  await create(undefined)
  t.is(await codeOf(t, create(undefined)), 'already-exists')
  await create({ bytesMax: 5e9, daysMax: 3 })
  const known = await eventually(
    () => all.node.policies.get('app'),
    (policy) => policy !== undefined,
  )
  t.deepEqual(known, { bytesMax: 5e9, daysMax: 3 })
  const { projects } = await callUnary<ListProjectsReply>(
    'list the projects',
    (sent, options, done) => all.client.admin.listProjects({}, sent, options, done),
    settings(all.client),
  )
  t.like(projects, [{ name: 'app', policy: { bytesMax: 5e9, daysMax: 3 } }])
})

test('a draining node takes no more builds, and says so', async (t) => {
  await using all = await startAll({ heartbeatMs: 20 })
  await all.node.scheduler.drain({ signal: limit() })
  await eventually(all.client.nodes, ({ nodes }) => nodes[0]?.load?.draining === true)
  t.is(await codeOf(t, all.client.open()), 'unavailable')
})

test('a node tells its load and what its disk has left', async (t) => {
  await using all = await startAll({ heartbeatMs: 500, scheduler: { slots: 3 } })
  await put(all.node, main, 'hello')
  const { buildId } = await all.client.open()
  await all.client.placed(buildId)
  const { nodes } = await eventually(
    all.client.nodes,
    (reply) => reply.nodes[0]?.load?.slotsUsed === 1 && reply.nodes[0].load.cacheBytes === 5,
  )
  const [node] = nodes
  t.like(node, { name: 'builder', platform: 'linux/amd64', online: true, version: '0.1.0' })
  t.is(node?.load?.slots, 3)
  t.true((node?.load?.diskFreeBytes ?? 0) > 0)
})
