import { once } from 'node:events'
import { connect } from 'node:net'
import path from 'node:path'
import { Duplex } from 'node:stream'
import test from 'ava'
import { createTemporaryFolder } from '../../test/harness/index.ts'
import { serveEndpoint } from './endpoint.ts'

/** Answers nothing, and goes on listening when it is told that nothing more comes. */
const stubborn = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })

test('a client that goes takes a far end with it that would never close by itself', async (t) => {
  await using folder = await createTemporaryFolder('endpoint')
  const far = stubborn()
  await using endpoint = await serveEndpoint(path.join(folder.path, 'endpoint.sock'), () => far)
  const client = connect(endpoint.address.slice('unix://'.length))
  client.end('the last words')
  await once(far, 'close', { signal: AbortSignal.timeout(20_000) })
  t.true(far.destroyed)
})

test('an endpoint that ends takes far ends with it', async (t) => {
  await using folder = await createTemporaryFolder('endpoint')
  const far = stubborn()
  const endpoint = await serveEndpoint(path.join(folder.path, 'endpoint.sock'), () => far)
  const client = connect(endpoint.address.slice('unix://'.length))
  client.on('error', () => {}) // It is cut off, which is the point.
  await once(client, 'connect')
  client.write('half a sent')
  const closed = once(far, 'close', { signal: AbortSignal.timeout(20_000) })
  await endpoint[Symbol.asyncDispose]()
  await closed
  t.true(far.destroyed)
})
