import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'node:tls'
import test from 'ava'
import { type Authority, openAuthority } from '../../coordinator/access/index.ts'
import { HearthError } from '../../core/errors.ts'
import { callStream, callUnary } from '../../core/grpc-call.ts'
import { streamHandler, unaryHandler } from '../../core/grpc-handler.ts'
import { formatAddress, type GrpcServer, startGrpcServer } from '../../core/grpc-server.ts'
import { silentLogger } from '../../core/log.ts'
import {
  type HeldBuildsReply,
  type LeaseEvent,
  LeaseRequest,
  NodeControlClient,
  type NodeControlServer,
  NodeControlService,
} from '../../proto/generated/hearth/v1/node.ts'
import { createTemporaryFolder } from '../harness/temporary-folder.ts'
import { asCoordinator, channelCredentials, codeOf, limit, never } from './parts.ts'

const log = silentLogger
const nobody = () => {
  throw new HearthError('internal', 'nobody calls this here')
}

/** A server of this contract with these handlers, and a client with a certificate of the same authority. */
async function serve(
  handlers: Pick<NodeControlServer, 'heldBuilds'> | Pick<NodeControlServer, 'lease'>,
) {
  await using stack = new AsyncDisposableStack()
  const folder = stack.use(await createTemporaryFolder('grpc'))
  const authority = await openAuthority({ folder: folder.path })
  const identity = await authority.issueOwn()
  const unused = unaryHandler({ log }, nobody)
  const service = {
    ...Object.fromEntries(Object.keys(NodeControlService).map((name) => [name, unused])),
    ...handlers,
  }
  const server = stack.use(
    await startGrpcServer({
      host: '127.0.0.1',
      port: 0,
      identity,
      callerCertificates: 'required',
      services: [[NodeControlService, service]],
    }),
  )
  const client = new NodeControlClient(
    formatAddress(server.host, server.port),
    channelCredentials(identity),
    asCoordinator,
  )
  stack.defer(() => client.close())
  const owned = stack.move()
  return { authority, server, client, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

const ask = (
  client: NodeControlClient,
  settings: { signal?: AbortSignal; timeoutMs?: number } = {},
) =>
  callUnary<HeldBuildsReply>(
    'ask',
    (sent, options, done) => client.heldBuilds({ buildIds: ['a'] }, sent, options, done),
    { signal: limit(), ...settings },
  )

const stream = (client: NodeControlClient, signal: AbortSignal) =>
  callStream<LeaseEvent>(
    'stream',
    (sent, options) => client.lease(LeaseRequest.fromPartial({ buildId: 'b' }), sent, options),
    { signal, timeoutMs: 20_000 },
  )

const queued = (position: number): LeaseEvent => ({
  event: { $case: 'queued', value: { position, reason: '' } },
})

test('what a handler throws reaches the caller with code and hint, and a bug stays a bug', async (t) => {
  const thrown: unknown[] = [
    new HearthError('exhausted', 'the disk is full', { hint: 'free some' }),
    new TypeError('undefined is not a function'),
    undefined,
  ]
  await using all = await serve({
    heldBuilds: unaryHandler({ log }, () => {
      throw thrown.shift()
    }),
  })
  const first = await t.throwsAsync(ask(all.client), { instanceOf: HearthError })
  t.is(first?.code, 'exhausted')
  t.is(first?.message, 'the disk is full')
  t.is(first?.hint, 'free some')
  t.is(await codeOf(t, ask(all.client)), 'internal')
  t.is(await codeOf(t, ask(all.client)), 'internal')
})

test('a handler that overlooks its signal keeps nobody waiting, and is told', async (t) => {
  const told = Promise.withResolvers<unknown>()
  await using all = await serve({
    heldBuilds: unaryHandler({ log, timeoutMs: 50 }, async (_request, { signal }) => {
      signal.addEventListener('abort', () => told.resolve(signal.reason))
      await new Promise(() => {})
      return { buildIds: [] }
    }),
  })
  t.is(await codeOf(t, ask(all.client)), 'deadline')
  t.true((await told.promise) instanceof HearthError)
})

test("the caller's own deadline and signal end the call on both sides", async (t) => {
  let reached = Promise.withResolvers<void>()
  const ended: Promise<unknown>[] = []
  await using all = await serve({
    heldBuilds: unaryHandler({ log, timeoutMs: 60_000 }, async (_request, { signal }) => {
      const end = once(signal, 'abort')
      ended.push(end)
      reached.resolve()
      await end
      return { buildIds: [] }
    }),
  })
  t.is(await codeOf(t, ask(all.client, { timeoutMs: 200 })), 'deadline')
  reached = Promise.withResolvers()
  const stop = new AbortController()
  const waiting = ask(all.client, { signal: stop.signal })
  await reached.promise
  stop.abort()
  t.is(await codeOf(t, waiting), 'cancelled')
  await Promise.all(ended)
  t.is(await codeOf(t, ask(all.client, { signal: AbortSignal.abort() })), 'cancelled')
})

test('leaving a stream ends the generator that feeds it', async (t) => {
  const over = Promise.withResolvers<void>()
  await using all = await serve({
    lease: streamHandler({ log, timeoutMs: 60_000 }, async function* (_request, { signal }) {
      try {
        yield queued(1)
        await delay(60_000, undefined, { signal })
      } finally {
        over.resolve()
      }
    }),
  })
  for await (const event of stream(all.client, never)) {
    t.deepEqual(event, queued(1))
    break
  }
  await over.promise
})

test('a stream carries its events in order and its error at the end', async (t) => {
  await using all = await serve({
    lease: streamHandler({ log, timeoutMs: 60_000 }, async function* () {
      for (let position = 1; position <= 2_000; position += 1) yield queued(position)
      throw new HearthError('corrupt', 'that was all')
    }),
  })
  const positions: number[] = []
  const read = async () => {
    for await (const { event } of stream(all.client, limit())) {
      if (event?.$case === 'queued') positions.push(event.value.position)
    }
  }
  t.is(await codeOf(t, read()), 'corrupt')
  t.deepEqual(
    positions,
    Array.from({ length: 2_000 }, (_, index) => index + 1),
  )
})

async function serialOf(server: GrpcServer, authority: Authority): Promise<string> {
  const identity = await authority.issueOwn()
  const socket = connect({
    host: server.host,
    port: server.port,
    ca: identity.caPem,
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    servername: 'coordinator.hearth.internal',
    ALPNProtocols: ['h2'],
  })
  await once(socket, 'secureConnect')
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber
}

test('a renewed certificate is shown to whoever connects from then on', async (t) => {
  await using all = await serve({
    heldBuilds: unaryHandler({ log }, ({ buildIds }) => ({ buildIds })),
  })
  const { authority, server } = all
  const before = await serialOf(server, authority)
  t.is(await serialOf(server, authority), before)
  await ask(all.client)
  server.replaceIdentity(await authority.issueOwn())
  t.not(await serialOf(server, authority), before)
  t.deepEqual(await ask(all.client), { buildIds: ['a'] }, 'open connections stay')
})
