import { existsSync } from 'node:fs'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { Server } from 'node:net'
import path from 'node:path'
import ava from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { PruneOutcome } from './index.ts'
import {
  build,
  buildkitdOf,
  fakeBuildkitd,
  forkScope,
  leavings,
  mainScope,
  networkOf,
  openPool,
  processesWith,
  soon,
  temporaryFolder,
  until,
} from './pool-fixture.ts'

// What a daemon must not inherit from us.
process.env.AWS_SECRET_ACCESS_KEY = 'not for steps'

// One after another: a dozen daemons at once would time the machine, not the code.
const test = ava.serial

test('a daemon starts when it is asked for, and all who ask at once share it', async (t) => {
  const { pool } = await openPool(t)
  t.deepEqual(pool.scopes(), [])
  const handles = await Promise.all([
    pool.acquire(mainScope, { signal: soon() }),
    pool.acquire(mainScope, { signal: soon() }),
  ])
  t.is(handles[0].socket, handles[1].socket)
  t.regex(handles[0].version, /^v\d+\.\d+\.\d+/)
  t.is(handles[0].platforms[0], process.arch === 'arm64' ? 'linux/arm64' : 'linux/amd64')
  t.false(handles[0].ended.aborted)
  t.deepEqual(pool.scopes(), [mainScope])
})

test('scopes have daemons, links and subnets of their own, in two pools at once', async (t) => {
  const [one, two] = await Promise.all([openPool(t), openPool(t)])
  const handles = await Promise.all([
    one.pool.acquire(mainScope, { signal: soon() }),
    one.pool.acquire(forkScope, { signal: soon() }),
    two.pool.acquire(mainScope, { signal: soon() }),
  ])
  const networks = await Promise.all(handles.map(networkOf))
  t.is(new Set(networks.map(({ bridge }) => bridge)).size, 3)
  t.is(new Set(networks.map(({ subnet }) => subnet)).size, 3)
  for (const { bridge } of networks) {
    t.true(bridge.length <= 15)
    t.true(existsSync(`/sys/class/net/${bridge}`))
  }
})

test('a step really runs, and sees nothing of the registry', async (t) => {
  const { pool } = await openPool(t)
  using handle = await pool.acquire(mainScope, { signal: soon() })
  const output = await temporaryFolder(t)
  await build(
    t,
    handle,
    `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox ip -4 addr > /addresses; cat /etc/hosts > /names || /bin/busybox cat /etc/hosts > /names"]`,
    { output },
  )
  const { subnet } = await networkOf(handle)
  const prefix = subnet.slice(0, subnet.lastIndexOf('.') + 1)
  t.true((await readFile(path.join(output, 'addresses'), 'utf8')).includes(` ${prefix}`))
  t.false((await readFile(path.join(output, 'names'), 'utf8')).includes('hearth.cache'))
})

test('buildkitd reaches the loopback registry by its name', async (t) => {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    response.writeHead(404).end()
  })
  const serve = (listener: Server): Disposable => {
    server.listen(listener)
    return { [Symbol.dispose]: () => void server.close() }
  }
  const { pool } = await openPool(t, { registry: { host: 'hearth.cache', port: 5000, serve } })
  using handle = await pool.acquire(mainScope, { signal: soon() })
  const error = await t.throwsAsync(build(t, handle, 'FROM hearth.cache:5000/some/image:tag'))
  t.regex(error?.message ?? '', /not found/)
  t.true(asked.includes('HEAD /v2/some/image/manifests/tag'), asked.join())
})

test('a killed daemon tells its handles why, takes its steps along, and is replaced', async (t) => {
  const { pool } = await openPool(t)
  const handle = await pool.acquire(mainScope, { signal: soon() })
  const { configFile } = await networkOf(handle)
  const marker = `87${process.pid}${Date.now() % 1000}`
  const failing = build(
    t,
    handle,
    `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sleep", "${marker}"]`,
  )
  failing.catch(() => {})
  const steps = async (): Promise<number> => {
    const found = await processesWith(marker)
    return found.filter(({ program }) => program === 'busybox').length
  }
  await until('the step runs', async () => (await steps()) === 1)
  process.kill(await buildkitdOf(configFile), 'SIGKILL')
  await until('the handle is told', () => handle.ended.aborted)
  const reason = handle.ended.reason as HearthError
  t.true(reason instanceof HearthError)
  t.is(reason.code, 'unavailable')
  t.regex(reason.message, /killed by SIGKILL/)
  t.regex(reason.message, /running server on/)
  t.is(await steps(), 0)
  await t.throwsAsync(failing)

  using next = await pool.acquire(mainScope, { signal: soon() })
  t.false(next.ended.aborted)
  t.regex(await build(t, next, 'FROM scratch\nCOPY busybox /'), /DONE/)
  handle[Symbol.dispose]()
})

test('a stopped pool leaves no process, bridge, rule or control group', async (t) => {
  const { pool, folder } = await openPool(t)
  const handle = await pool.acquire(mainScope, { signal: soon() })
  const network = await networkOf(handle)
  await build(t, handle, 'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "true"]')
  t.not((await leavings(network)).length, 0)
  await pool[Symbol.asyncDispose]()
  t.true(handle.ended.aborted)
  t.deepEqual(await leavings(network), [])
  t.deepEqual(await processesWith(network.configFile), [])
  t.false(existsSync(path.dirname(handle.socket)))
  t.true(existsSync(path.join(folder, 'app/main/root')))
  const error = await t.throwsAsync(pool.acquire(mainScope, { signal: soon() }))
  t.is((error as HearthError).code, 'unavailable')
})

test('a daemon is stopped when idle, never while somebody holds it', async (t) => {
  const { pool } = await openPool(t, { idleStopMs: 200 })
  const first = await pool.acquire(mainScope, { signal: soon() })
  const second = await pool.acquire(mainScope, { signal: soon() })
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  using fork = await pool.acquire(forkScope, { signal: soon() })
  t.false(second.ended.aborted)
  second[Symbol.dispose]()
  await until('the idle daemon stops', () => second.ended.aborted)
  t.false(fork.ended.aborted)
  using again = await pool.acquire(mainScope, { signal: soon() })
  t.false(again.ended.aborted)
})

test('who gives up waiting is told at once, and the daemon serves the others', async (t) => {
  const { pool } = await openPool(t)
  const impatient = new AbortController()
  const waiting = pool.acquire(mainScope, { signal: impatient.signal })
  const other = pool.acquire(mainScope, { signal: soon() })
  impatient.abort()
  const error = await t.throwsAsync(waiting)
  t.is((error as HearthError).code, 'cancelled')
  using handle = await other
  t.false(handle.ended.aborted)
})

test('a reset deletes the state, but not under a build', async (t) => {
  const { pool, folder } = await openPool(t)
  const handle = await pool.acquire(mainScope, { signal: soon() })
  await build(t, handle, 'FROM scratch\nCOPY busybox /')
  const { bytes } = await pool.measure(mainScope, { signal: soon() })
  t.true(bytes > (await stat('/bin/busybox')).size)
  t.truthy(pool.contentFile(mainScope, digestOf('x')))
  const refused = await t.throwsAsync(pool.reset(mainScope))
  t.is((refused as HearthError).code, 'unavailable')
  handle[Symbol.dispose]()
  const { bytesFreed } = await pool.reset(mainScope)
  t.true(bytesFreed > (await stat('/bin/busybox')).size)
  t.deepEqual(await readdir(path.join(folder, 'app')), [])
  t.deepEqual(pool.scopes(), [])
  t.is((await pool.measure(mainScope, { signal: soon() })).bytes, 0)
  t.is(pool.contentFile(mainScope, digestOf('x')), undefined)
  using again = await pool.acquire(mainScope, { signal: soon() })
  t.false(again.ended.aborted)
})

test('the state survives a stop, and is found again by the next pool', async (t) => {
  const { pool, folder } = await openPool(t)
  {
    using handle = await pool.acquire(mainScope, { signal: soon() })
    await build(t, handle, 'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "true"]')
  }
  await pool[Symbol.asyncDispose]()
  const { pool: next } = await openPool(t, { folder })
  t.deepEqual(next.scopes(), [mainScope])
  using handle = await next.acquire(mainScope, { signal: soon() })
  const again = await build(
    t,
    handle,
    'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "true"]',
  )
  t.regex(again, /CACHED/)
})

test('a buildkitd that cannot start is quoted', async (t) => {
  const buildkitd = await fakeBuildkitd(t, 'echo "the moon is in the wrong house" >&2; exit 3')
  const { pool } = await openPool(t, { programs: { buildkitd } })
  const error = await t.throwsAsync(pool.acquire(mainScope, { signal: soon() }))
  t.is((error as HearthError).code, 'environment')
  t.regex(error?.message ?? '', /exit code 3/)
  t.regex(error?.message ?? '', /the moon is in the wrong house/)
  t.regex((error as HearthError).hint ?? '', /app\/main\/buildkitd\.log/)
})

test('a buildkitd that never answers is given up and killed', async (t) => {
  const buildkitd = await fakeBuildkitd(t, 'trap "" TERM; while :; do sleep 1; done')
  const { pool, folder } = await openPool(t, {
    programs: { buildkitd },
    startLimitMs: 300,
    stopLimitMs: 200,
  })
  const error = await t.throwsAsync(pool.acquire(mainScope, { signal: soon() }))
  t.is((error as HearthError).code, 'deadline')
  t.deepEqual(await processesWith(buildkitd), [])
  t.true(existsSync(path.join(folder, 'app/main/buildkitd.log')))
})

test('a state that BuildKit cannot open is set aside, once', async (t) => {
  const { pool, folder } = await openPool(t)
  const place = path.join(folder, 'app/main')
  for (const round of [1, 2]) {
    const handle = await pool.acquire(mainScope, { signal: soon() })
    handle[Symbol.dispose]()
    const { configFile } = await networkOf(handle)
    process.kill(await buildkitdOf(configFile), 'SIGKILL')
    await until('it is down', () => handle.ended.aborted)
    await writeFile(path.join(place, 'root/runc-overlayfs/containerdmeta.db'), 'x'.repeat(9000))
    using next = await pool.acquire(mainScope, { signal: soon() })
    t.false(next.ended.aborted)
    const kept = (await readdir(place)).filter((name) => name.startsWith('root.corrupt'))
    t.deepEqual(kept, [`root.corrupt-${round}`])
  }
})

test('a data folder belongs to one pool at a time', async (t) => {
  const { pool, folder } = await openPool(t)
  const error = await t.throwsAsync(openPool(t, { folder }))
  t.is((error as HearthError).code, 'environment')
  t.regex(error?.message ?? '', new RegExp(`in use by process ${process.pid}`))
  await pool[Symbol.asyncDispose]()
  await t.notThrowsAsync(openPool(t, { folder }))
})

test('a daemon inherits nothing secret', async (t) => {
  const { pool } = await openPool(t)
  using handle = await pool.acquire(mainScope, { signal: soon() })
  const pid = await buildkitdOf((await networkOf(handle)).configFile)
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8')
  t.true(environment.includes('PATH='))
  t.false(environment.includes('not for steps'))
})

test('the state of an idle daemon is shrunk when that is asked for, and gives way to a build', async (t) => {
  const bytesMax = 12 * 1024 ** 2
  const outcomes: PruneOutcome[] = []
  const { pool } = await openPool(t, {
    restMs: 50,
    onIdle(scope) {
      void pool.prune(scope, { bytesMax, measure }).then((outcome) => outcomes.push(outcome))
    },
  })
  const measure = async () => (await pool.measure(mainScope, { signal: soon() })).bytes
  const bigBuild = (name: string): string => `FROM scratch
COPY busybox /bin/
RUN ["/bin/busybox", "dd", "if=/dev/urandom", "of=/${name}", "bs=1M", "count=10"]`
  {
    using handle = await pool.acquire(mainScope, { signal: soon() })
    await build(t, handle, bigBuild('one'))
    await build(t, handle, bigBuild('two'))
    t.true((await measure()) > 20 * 1024 ** 2)
    t.deepEqual(await pool.prune(mainScope, { bytesMax, measure }), {
      type: 'kept',
      reason: 'in use',
    })
  }
  for (let times = 0; times < 5; times++) {
    using handle = await pool.acquire(mainScope, { signal: soon() })
    t.regex(await build(t, handle, 'FROM scratch\nCOPY busybox /'), /DONE/)
  }
  await until('the state is small', () => outcomes.some(({ type }) => type === 'pruned'))
  t.true((await measure()) < bytesMax)
})

test('a prune that insists lets a build wait for its end', async (t) => {
  const { pool } = await openPool(t)
  {
    using handle = await pool.acquire(mainScope, { signal: soon() })
    await build(t, handle, 'FROM scratch\nCOPY busybox /')
  }
  t.true(Date.now() - (await pool.lastUsedAtMs(mainScope)) < 60_000)
  const measure = async () => (await pool.measure(mainScope, { signal: soon() })).bytes
  let ended = false
  const pruning = pool.prune(mainScope, { bytesMax: 1, measure, insist: true }).then((outcome) => {
    ended = true
    return outcome
  })
  using handle = await pool.acquire(mainScope, { signal: soon() })
  t.true(ended)
  t.is((await pruning).type, 'pruned')
  t.false(handle.ended.aborted)
})
