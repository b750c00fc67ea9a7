import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer } from 'node:net'
import test from 'ava'
import { call, openFixture, repository } from './temporary-registry.fixture.ts'

async function openListener() {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  return { listener, port: (listener.address() as AddressInfo).port }
}

test('a registry that listens nowhere serves each listener it is handed', async (t) => {
  await using fixture = await openFixture({ listen: false })
  t.is(fixture.registry.port, 0)
  const [first, second] = [await openListener(), await openListener()]
  using _first = fixture.registry.serve(first.listener)
  using _second = fixture.registry.serve(second.listener)
  const digest = await fixture.put(Buffer.from('both'))
  const target = `${repository(fixture.reader())}/blobs/${digest}`
  for (const { port } of [first, second]) {
    const answer = await call(port, 'GET', target)
    t.is(answer.status, 200)
    t.is(answer.body.toString(), 'both')
  }
})

test('no longer serving a listener closes it and cuts its connections, and no others', async (t) => {
  await using fixture = await openFixture()
  const { listener, port } = await openListener()
  const serving = fixture.registry.serve(listener)
  const connection = createConnection(port, '127.0.0.1')
  connection.on('error', () => {})
  await once(connection, 'connect')
  t.is((await call(port, 'GET', '/v2/')).status, 200)
  const cut = once(connection, 'close')
  serving[Symbol.dispose]()
  await cut
  await t.throwsAsync(call(port, 'GET', '/v2/'), { code: 'ECONNREFUSED' })
  t.is((await call(fixture.registry.port, 'GET', '/v2/')).status, 200)
})

test('a registry that ends closes the listeners it was handed', async (t) => {
  const { listener, port } = await openListener()
  {
    await using fixture = await openFixture({ listen: false })
    fixture.registry.serve(listener)
    t.is((await call(port, 'GET', '/v2/')).status, 200)
  }
  await t.throwsAsync(call(port, 'GET', '/v2/'), { code: 'ECONNREFUSED' })
})
