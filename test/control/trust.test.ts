import { generateKeyPairSync } from 'node:crypto'
import { credentials, Metadata } from '@grpc/grpc-js'
import test from 'ava'
import { openAuthority } from '../../coordinator/access/index.ts'
import type { HearthError } from '../../core/errors.ts'
import { callUnary } from '../../core/grpc-call.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { type Identity, nodeServerName } from '../../core/identity.ts'
import { makeScope } from '../../core/scope.ts'
import { BuildOutcome, BuildReport } from '../../proto/generated/hearth/v1/build.ts'
import {
  AdminClient,
  type CreateTokenReply,
  type JoinReply,
  JoinRequest,
  MembershipClient,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import { NodeControlClient, NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import { createTemporaryFolder } from '../harness/temporary-folder.ts'
import {
  asCoordinator,
  type Coordinator,
  channelCredentials,
  codeOf,
  connectTestClient,
  limit,
  never,
  solveReport,
  startAll,
  type TestClient,
  type TestNode,
} from './parts.ts'

const hourMs = 60 * 60_000

async function certify(
  folder: string,
  identity: Exclude<Identity, { type: 'coordinator' }>,
  options: { now?: () => number; trust?: string } = {},
): Promise<TlsIdentity> {
  const authority = await openAuthority({ folder, ...options })
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const { certificatePem } = await authority.issue(identity, spki, hourMs)
  return {
    certificatePem,
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    caPem: options.trust ?? authority.caPem,
  }
}

function createToken(client: TestClient, project: string, line = ''): Promise<CreateTokenReply> {
  return callUnary<CreateTokenReply>(
    'create a token',
    (sent, options, done) =>
      client.admin.createToken(
        { project, line, description: 'a test', join: false },
        sent,
        options,
        done,
      ),
    { metadata: client.metadata, signal: never },
  )
}

/** Asks a node, as whoever the certificate is of, which builds it holds. */
async function askNode(
  node: TestNode,
  identity: TlsIdentity | { caPem: string },
): Promise<unknown> {
  const secure =
    'privateKeyPem' in identity
      ? channelCredentials(identity)
      : credentials.createSsl(Buffer.from(identity.caPem))
  const client = new NodeControlClient(node.controlAddress, secure, {
    'grpc.ssl_target_name_override': nodeServerName(node.id),
  })
  try {
    return await callUnary(
      'ask the node',
      (sent, options, done) => client.heldBuilds({ buildIds: [] }, sent, options, done),
      { signal: limit() },
    )
  } finally {
    client.close()
  }
}

type MembershipCall = 'join' | 'heartbeat' | 'reportBuild'

async function askMembership(
  coordinator: Coordinator,
  identity: TlsIdentity | undefined,
  call: MembershipCall,
  nodeId: string,
  joinToken = '',
): Promise<unknown> {
  const secure =
    identity === undefined
      ? credentials.createSsl(Buffer.from(coordinator.caPem))
      : channelCredentials(identity)
  const client = new MembershipClient(coordinator.address, secure, asCoordinator)
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
  const calls = {
    join: (sent: Metadata, options: object, done: Parameters<typeof client.join>[3]) =>
      client.join(
        JoinRequest.create({
          protocolVersion: 1,
          joinToken,
          name: 'n',
          platform: 'linux/amd64',
          publicKey: key.export({ type: 'spki', format: 'der' }),
          nodeId,
        }),
        sent,
        options,
        done,
      ),
    heartbeat: (sent: Metadata, options: object, done: Parameters<typeof client.heartbeat>[3]) =>
      client.heartbeat({ nodeId, load: NodeLoad.create(), life: '' }, sent, options, done),
    reportBuild: (
      sent: Metadata,
      options: object,
      done: Parameters<typeof client.reportBuild>[3],
    ) =>
      client.reportBuild(
        {
          report: BuildReport.create({
            buildId: 'abc',
            nodeId,
            scope: makeScope('app', 'main'),
            solves: [solveReport('r')],
          }),
        },
        sent,
        options,
        done,
      ),
  }
  try {
    return await callUnary<unknown>(
      'ask the coordinator',
      (sent, options, done) => calls[call](sent, options, done as never),
      { signal: limit() },
    )
  } finally {
    client.close()
  }
}

test('a wrong token, and none, are refused with what to do', async (t) => {
  await using all = await startAll()
  for (const token of [undefined, 'hth_aaaaaaaa_b', `${all.coordinator.adminToken}a`]) {
    using client = connectTestClient(all.coordinator, token)
    for (const call of [client.open(), client.list(), client.nodes(), client.placed('x')]) {
      const error = await t.throwsAsync<HearthError>(call)
      t.is(error?.code, 'unauthenticated')
      t.truthy(error?.hint)
    }
  }
})

test('a token of one project neither builds nor sees anything in another', async (t) => {
  await using all = await startAll()
  const foreign = await all.client.open({ project: 'other' })
  const { token } = await createToken(all.client, 'app')
  using client = connectTestClient(all.coordinator, token)
  const own = await client.open({ project: '' })
  t.deepEqual(own.scope, makeScope('app', 'main'))
  t.is(await codeOf(t, client.open({ project: 'other' })), 'forbidden')
  t.is(await codeOf(t, client.list({ project: 'other' })), 'forbidden')
  t.is(await codeOf(t, client.get(foreign.buildId)), 'not-found')
  t.is(await codeOf(t, client.placed(foreign.buildId)), 'not-found')
  t.is(await codeOf(t, client.finish(foreign.buildId)), 'not-found')
  t.deepEqual(
    (await client.list()).builds.map(({ id }) => id),
    [own.buildId],
  )
  t.is(await codeOf(t, createToken(client, 'app')), 'forbidden')
})

test("a fork's token builds in its own line and touches no build of another", async (t) => {
  await using all = await startAll()
  const main = await all.client.open()
  const { token } = await createToken(all.client, 'app', 'fork-7')
  using fork = connectTestClient(all.coordinator, token)
  t.deepEqual((await fork.open()).scope, makeScope('app', 'fork-7'))
  t.is(await codeOf(t, fork.placed(main.buildId)), 'forbidden')
  t.is(await codeOf(t, fork.finish(main.buildId)), 'forbidden')
})

test('a revoked token is worth nothing at once', async (t) => {
  await using all = await startAll()
  const { id, token } = await createToken(all.client, 'app')
  using client = connectTestClient(all.coordinator, token)
  await client.open()
  await callUnary(
    'revoke',
    (sent, options, done) => all.client.admin.revokeToken({ id }, sent, options, done),
    { metadata: all.client.metadata, signal: never },
  )
  t.is(await codeOf(t, client.open()), 'unauthenticated')
})

test('a client of a newer Hearth is told so', async (t) => {
  await using all = await startAll()
  const error = await t.throwsAsync<HearthError>(all.client.open({ protocolVersion: 2 }))
  t.is(error?.code, 'version')
  t.is(error?.message, 'the protocol of this client has version 2; this Hearth knows up to 1')
})

test('only the coordinator commands a node: not another node, a client, a stranger or nobody', async (t) => {
  await using all = await startAll()
  await using elsewhere = await createTemporaryFolder('elsewhere')
  const { node, coordinatorFolder, coordinator } = all
  const trust = coordinator.caPem
  const scope = makeScope('app', 'main')
  const client = await certify(coordinatorFolder, { type: 'client', scope, buildId: 'b' })
  t.is(await codeOf(t, askNode(node, client)), 'forbidden')
  const other = await certify(coordinatorFolder, { type: 'node', nodeId: node.id })
  t.is(await codeOf(t, askNode(node, other)), 'forbidden')
  t.is(await codeOf(t, askNode(node, { caPem: trust })), 'unavailable')

  const stranger = await openAuthority({ folder: elsewhere.path })
  const posing = await stranger.issueOwn()
  t.is(await codeOf(t, askNode(node, { ...posing, caPem: trust })), 'unavailable')

  const yesterday = () => Date.now() - 100 * 24 * hourMs
  const old = await openAuthority({ folder: coordinatorFolder, now: yesterday })
  t.is(await codeOf(t, askNode(node, await old.issueOwn())), 'unavailable')

  const genuine = await openAuthority({ folder: coordinatorFolder })
  t.deepEqual(await askNode(node, await genuine.issueOwn()), { buildIds: [] })
})

for (const call of ['heartbeat', 'reportBuild', 'join'] as const) {
  test(`${call} is for a node's own, present certificate of this authority alone`, async (t) => {
    await using all = await startAll()
    await using elsewhere = await createTemporaryFolder('elsewhere')
    const { node, coordinator, coordinatorFolder } = all
    const self = { type: 'node', nodeId: node.id } as const
    const ask = (identity: TlsIdentity | undefined) =>
      askMembership(coordinator, identity, call, node.id)
    t.is(await codeOf(t, ask(undefined)), 'unauthenticated')
    const stranger = await certify(elsewhere.path, self, { trust: coordinator.caPem })
    t.is(await codeOf(t, ask(stranger)), 'unauthenticated')
    const now = () => Date.now() - 2 * hourMs
    t.is(await codeOf(t, ask(await certify(coordinatorFolder, self, { now }))), 'unauthenticated')
    const another = await certify(coordinatorFolder, { type: 'node', nodeId: 'another' })
    t.is(await codeOf(t, ask(another)), 'forbidden')
    const scope = makeScope('app', 'main')
    const client = await certify(coordinatorFolder, { type: 'client', scope, buildId: 'b' })
    t.is(await codeOf(t, ask(client)), 'unauthenticated')
    t.truthy(await ask(await certify(coordinatorFolder, self)))
  })
}

test('a join token lets one node in, and never as another', async (t) => {
  await using all = await startAll()
  const { coordinator, node } = all
  const token = await coordinator.newJoinToken()
  const joined = (await askMembership(coordinator, undefined, 'join', node.id, token)) as JoinReply
  t.not(joined.nodeId, node.id)
  t.is(await codeOf(t, askMembership(coordinator, undefined, 'join', '', token)), 'unauthenticated')
  const admin = coordinator.adminToken
  t.is(await codeOf(t, askMembership(coordinator, undefined, 'join', '', admin)), 'unauthenticated')
})

test("a node reports nothing about a build of another scope, and cannot pass as another's reporter", async (t) => {
  await using all = await startAll()
  const { client, coordinator, coordinatorFolder, node } = all
  const { buildId } = await client.open({ project: 'other' })
  node.membership.report({
    buildId,
    nodeId: '',
    scope: makeScope('app', 'main'),
    solves: [solveReport('r')],
  })
  // The refusal is final: nothing is left waiting.
  await node.membership.settled(buildId, { signal: limit() })
  t.deepEqual((await client.get(buildId)).build?.solves, [])
  const identity = await certify(coordinatorFolder, { type: 'node', nodeId: 'mallory' })
  t.is(await codeOf(t, askMembership(coordinator, identity, 'reportBuild', node.id)), 'forbidden')
})

test('a client that trusts another authority does not talk to the coordinator', async (t) => {
  await using all = await startAll()
  await using elsewhere = await createTemporaryFolder('elsewhere')
  const { caPem } = await openAuthority({ folder: elsewhere.path })
  const { address, adminToken } = all.coordinator
  using client = connectTestClient({ address, caPem }, adminToken)
  t.is(await codeOf(t, client.open()), 'unavailable')
})

test('a request that is too large is refused and the coordinator goes on', async (t) => {
  await using all = await startAll()
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${all.coordinator.adminToken}`)
  const secure = credentials.createSsl(Buffer.from(all.coordinator.caPem))
  const admin = new AdminClient(all.coordinator.address, secure, {
    ...asCoordinator,
    'grpc.max_send_message_length': -1,
  })
  const description = 'x'.repeat(20 * 1024 * 1024)
  const call = callUnary(
    'create a token',
    (sent, options, done) =>
      admin.createToken({ project: '', line: '', description, join: false }, sent, options, done),
    { metadata, signal: limit() },
  )
  t.is(await codeOf(t, call), 'exhausted')
  admin.close()
  const { buildId } = await all.client.open()
  const { build } = await all.client.finish(buildId, BuildOutcome.BUILD_OUTCOME_CANCELLED)
  t.is(build?.id, buildId)
})
