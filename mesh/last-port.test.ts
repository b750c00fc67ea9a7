import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import net, { type AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { HearthError, toHearthError } from '../core/errors.ts'
import { startOnLastPort } from './last-port.ts'

async function listen(port: number): Promise<net.Server> {
  const server = net.createServer().listen(port, '127.0.0.1')
  await once(server, 'listening').catch((error: unknown) => {
    throw toHearthError(error)
  })
  return server
}

const portOf = (server: net.Server): number => (server.address() as AddressInfo).port

test('a port is had again, and given up for another one where somebody else has it', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-port-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = path.join(folder, 'mesh', 'port')
  const start = () => startOnLastPort(file, 0, listen, portOf)

  const first = await start()
  const port = portOf(first)
  const second = await start()
  t.not(portOf(second), port)
  first.close()
  second.close()
  await Promise.all([once(first, 'close'), once(second, 'close')])

  // The last one counts.
  const third = await start()
  const wanted = portOf(third)
  await t.throwsAsync(startOnLastPort(file, wanted, listen, portOf), { instanceOf: HearthError })
  third.close()
  await once(third, 'close')
  const fourth = await start()
  t.is(portOf(fourth), wanted)
  fourth.close()
})
