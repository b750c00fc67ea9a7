import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import ava from 'ava'
import {
  buildkitdOf,
  leavings,
  mainScope,
  networkOf,
  openPool,
  processesWith,
  soon,
  temporaryFolder,
  until,
} from './pool-fixture.ts'

// One after another: a dozen daemons at once would time the machine, not the code.
const test = ava.serial

/** Another process that holds a daemon in the folder, until it is killed. */
async function holdDaemon(
  folder: string,
): Promise<{ pid: number; socket: string; kill(): Promise<void> }> {
  const modules = import.meta.resolve('./index.ts')
  const log = import.meta.resolve('../../../core/log.ts')
  const script = `
    const { createDaemonPool } = await import(${JSON.stringify(modules)})
    const { silentLogger: log } = await import(${JSON.stringify(log)})
    const serve = (listener) => ({ [Symbol.dispose]: () => listener.close() })
    const registry = { host: 'hearth.cache', port: 5000, serve }
    const pool = await createDaemonPool({ log }, { folder: ${JSON.stringify(folder)}, registry })
    const signal = AbortSignal.timeout(30000)
    const handle = await pool.acquire(${JSON.stringify(mainScope)}, { signal })
    console.log(handle.socket)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [socket] = (await once(createInterface(child.stdout), 'line', { signal: soon() })) as [
    string,
  ]
  return {
    pid: child.pid ?? 0,
    socket,
    async kill() {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    },
  }
}

const asHandle = (socket: string) => ({ socket }) as Parameters<typeof networkOf>[0]

test('daemons notice the death of their Hearth and end in peace', async (t) => {
  const folder = await temporaryFolder(t)
  const killed = await holdDaemon(folder)
  const network = await networkOf(asHandle(killed.socket))
  await killed.kill()
  await until(
    'the daemon has ended',
    async () => (await processesWith(network.configFile)).length === 0,
  )
  // The kernel takes its time to take a network namespace down.
  await until('its link is gone', () => !existsSync(`/sys/class/net/${network.bridge}`))
  // The rest goes with the next Hearth.
  const { pool } = await openPool(t, { folder })
  t.deepEqual(await leavings(network), [])
  t.false(existsSync(killed.socket))
  using handle = await pool.acquire(mainScope, { signal: soon() })
  t.is((await networkOf(handle)).bridge, network.bridge)
})

test('a daemon that outlived its Hearth is ended by the next one', async (t) => {
  const folder = await temporaryFolder(t)
  const killed = await holdDaemon(folder)
  const network = await networkOf(asHandle(killed.socket))
  // A stopped process answers to no TERM: as a hanging buildkitd would not.
  process.kill(await buildkitdOf(network.configFile), 'SIGSTOP')
  await killed.kill()
  t.not((await processesWith(network.configFile)).length, 0)
  const { pool } = await openPool(t, { folder })
  t.deepEqual(await processesWith(network.configFile), [])
  t.deepEqual(await leavings(network), [])
  using handle = await pool.acquire(mainScope, { signal: soon() })
  t.false(handle.ended.aborted)
})

test('a folder that a living Hearth uses is refused to another process', async (t) => {
  const folder = await temporaryFolder(t)
  const living = await holdDaemon(folder)
  t.teardown(() => living.kill())
  const error = await t.throwsAsync(openPool(t, { folder }))
  t.is(error?.message, `${folder} is in use by process ${living.pid}`)
})

test('what a Hearth left that was killed while it made its claims goes with the next one', async (t) => {
  const machineFolder = await temporaryFolder(t)
  const pools = path.join(machineFolder, 'pools')
  const { pool: living } = await openPool(t, { machineFolder })
  const kept = await readdir(pools)
  t.is(kept.length, 2)
  await mkdir(path.join(pools, '0123456789ab'))
  await writeFile(path.join(pools, 'ba9876543210.json.new'), '{"version":')
  const { pool } = await openPool(t, { machineFolder })
  await pool[Symbol.asyncDispose]()
  t.deepEqual((await readdir(pools)).sort(), kept.sort())
  using handle = await living.acquire(mainScope, { signal: soon() })
  t.false(handle.ended.aborted)
})
