/** A client that breaks off, in whatever way and moment, does nothing to the node or to other builds. */
import { readFile } from 'node:fs/promises'
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import anyTest, { type TestFn } from 'ava'
import { frameMessage } from '../../proto/wire.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

async function connectRaw(builder: Builder): Promise<ClientHttp2Session> {
  const { address, serverName, files } = builder.tls
  const [host = '', port = ''] = address.split(':')
  const [ca, cert, key] = await Promise.all(
    [files.cacert, files.cert, files.key].map((file) => readFile(file)),
  )
  const socket = connectTls({
    host,
    port: Number(port),
    servername: serverName,
    ALPNProtocols: ['h2'],
    ...{ ca, cert, key },
  })
  const session = connect(`https://${serverName}`, { createConnection: () => socket })
  session.on('error', () => {})
  return session
}

const control = '/moby.buildkit.v1.Control'
const bridge = '/moby.buildkit.v1.frontend.LLBBridge'
const endings = ['reset without error', 'cancel', 'end', 'whole connection'] as const

for (const path of [
  `${control}/Session`,
  `${control}/Solve`,
  `${control}/Status`,
  `${control}/Info`,
  `${bridge}/Solve`,
  `${control}/Unknown`,
]) {
  test.serial(`${path}: broken off in every way, with bytes still on their way`, async (t) => {
    const { builder } = t.context
    for (const ending of endings) {
      for (const afterMs of [0, 5, 40]) {
        const session = await connectRaw(builder)
        const stream = session.request({
          ':method': 'POST',
          ':path': path,
          'content-type': 'application/grpc',
          te: 'trailers',
        })
        stream.on('error', () => {})
        for (let count = 0; count < 64; count += 1) {
          stream.write(frameMessage(Buffer.alloc(32 * 1024, count)))
        }
        await delay(afterMs)
        if (ending === 'reset without error') stream.close(constants.NGHTTP2_NO_ERROR)
        if (ending === 'cancel') stream.close(constants.NGHTTP2_CANCEL)
        if (ending === 'end') stream.end()
        if (ending !== 'whole connection') await delay(20)
        session.destroy()
      }
    }
    await using context = await createContext(`RUN echo after ${path}`)
    const built = await builder.through.buildctl(clientKinds.buildctl(context.path))
    t.is(built.exitCode, 0, built.stderr)
  })
}
