import { chown, mkdir, readFile, stat } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Home, makeHome, runHearth, startHearthCommand } from '../command-fixture.ts'
import { findUpProcess, waitUntilGone } from '../daemon/up-file.ts'

/** Starts Hearth in the background; it is stopped with the test. */
async function up(t: ExecutionContext, home: Home) {
  const data = path.join(home.folder, 'data')
  t.teardown(async () => {
    const left = await findUpProcess(data)
    if (left === undefined) return
    process.kill(left.pid, 'SIGTERM')
    await waitUntilGone(data, left.pid, 30_000)
  })
  return await runHearth(t, home, ['up', '--port', '0', '--slots', '1'])
}

test.serial('up returns when builds are possible, once is enough, and down ends it', async (t) => {
  const home = await makeHome(t)
  const first = await up(t, home)
  t.is(first.code, 0, first.stderr)
  t.regex(first.stdout, /^Hearth is up: coordinator 127\.0\.0\.1:\d+, node \S+, pid \d+, data in /)
  t.regex(first.stdout, /hearth build -t app:dev \./)
  t.is((await stat(path.join(home.folder, 'data/client.json'))).mode & 0o777, 0o600)

  const second = await runHearth(t, home, ['up', '--json'])
  t.is(second.code, 0)
  const { state: again, pid, nodeId } = JSON.parse(second.stdout)
  t.is(again, 'already up')
  t.true(first.stdout.includes(`pid ${pid}`))

  const { nodes } = JSON.parse((await runHearth(t, home, ['nodes', '--json'])).stdout)
  t.like(nodes, [{ id: nodeId, online: true, load: { slots: 1 } }])

  const down = await runHearth(t, home, ['down'])
  t.is(down.code, 0)
  t.regex(down.stdout, /^Hearth is down/)
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z gone')
  t.regex(state, /\) Z /, 'the process has ended')
  t.regex((await runHearth(t, home, ['down'])).stdout, /^Hearth is not up in /)

  // Its folder takes it back: the same node, and the token of before.
  const third = await up(t, home)
  t.true(third.stdout.includes(`node ${nodeId},`), third.stderr)
})

test.serial(
  'several nodes run side by side, each with a store of its own, all in one mesh',
  async (t) => {
    const home = await makeHome(t)
    const args = ['up', '--foreground', '--port', '0', '--nodes', '3', '--json']
    const running = startHearthCommand(t, home, args)
    const { nodeId, nodeIds } = JSON.parse(await running.prints(/\}\n$/))
    t.is(nodeIds.length, 3)
    t.is(nodeIds[0], nodeId)
    for (const folder of ['node', 'node-2', 'node-3']) {
      t.true((await stat(path.join(home.folder, 'data', folder, 'cache-store'))).isDirectory())
    }
    const limit = AbortSignal.timeout(60_000)
    for (;;) {
      const { nodes } = JSON.parse((await runHearth(t, home, ['nodes', '--json'])).stdout)
      const found = nodes.filter(
        (node: { inMesh: boolean; online: boolean }) => node.inMesh && node.online,
      )
      t.is(new Set(nodes.map((node: { name: string }) => node.name)).size, 3)
      if (found.length === 3) break
      if (limit.aborted) return t.fail(JSON.stringify(nodes))
    }
    running.kill('SIGTERM')
    t.is((await running.ended).code, 0)
    const wrong = await runHearth(t, home, ['up', '--nodes', 'many'])
    t.is(wrong.code, 2)
    t.regex(wrong.stderr, /--nodes: "many"/)
  },
)

test.serial(
  'in the foreground it is ready on one line, and SIGTERM ends it in order',
  async (t) => {
    const home = await makeHome(t)
    const args = ['up', '--foreground', '--port', '0', '--json']
    const running = startHearthCommand(t, home, args)
    const { state, pid } = JSON.parse(await running.prints(/\}\n$/))
    t.is(state, 'up')
    t.is(pid, running.pid)
    running.kill('SIGTERM')
    const { code, stderr } = await running.ended
    t.is(code, 0)
    for (const line of stderr.trim().split('\n')) t.notThrows(() => JSON.parse(line), line)
  },
)

test.serial('a port that is taken is said by the command that started it', async (t) => {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as net.AddressInfo
  const home = await makeHome(t)
  const { code, stdout, stderr } = await runHearth(t, home, ['up', '--port', `${port}`])
  t.is(code, 3)
  t.is(stdout, '')
  t.is(
    stderr,
    `hearth: 127.0.0.1:${port} is taken\n  choose another port, or stop what listens there\n`,
  )
  t.regex((await runHearth(t, home, ['down'])).stdout, /not up/)
})

test.serial('a data folder of somebody else is refused before anything is written', async (t) => {
  const home = await makeHome(t)
  const folder = path.join(home.folder, 'data')
  await mkdir(folder)
  await chown(folder, 65534, 65534)
  const { code, stderr } = await runHearth(t, home, ['up'])
  t.is(code, 3)
  t.regex(
    stderr,
    /^hearth: the data folder .* belongs to user 65534, not to you \(0\)\n {2}run as its owner/,
  )
})

test.serial('a data folder of a newer Hearth, or of something else, is refused', async (t) => {
  const home = await makeHome(t)
  const file = await home.write({ 'data/format.json': '{"kind":"installation","version":99}' })
  const newer = await runHearth(t, home, ['up'])
  t.is(newer.code, 10)
  t.regex(newer.stderr, /has version 99/)
  await home.write({ 'data/format.json': '{"kind":"node","version":1}' })
  const other = await runHearth(t, home, ['up'])
  t.is(other.code, 2)
  t.regex(other.stderr, /holds the data of a node/)
  t.is(await readFile(file, 'utf8'), '{"kind":"node","version":1}')
})
