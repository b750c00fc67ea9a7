import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import ava from 'ava'
import { HearthError } from '../../../core/errors.ts'
import {
  build,
  buildkitdOf,
  leavings,
  mainScope,
  networkOf,
  openPool,
  processesWith,
  soon,
  until,
} from './pool-fixture.ts'

// One after another: a dozen daemons at once would time the machine, not the code.
const test = ava.serial

const hang = { everyMs: 100, answerMs: 500, failuresMin: 3, silentMs: 1_000 }

test('a buildkitd that hangs under a build is dumped, killed and replaced', async (t) => {
  const { pool, folder } = await openPool(t, { hang })
  const handle = await pool.acquire(mainScope, { signal: soon() })
  const network = await networkOf(handle)
  const marker = `86${process.pid}${Date.now() % 1000}`
  const failing = build(
    t,
    handle,
    `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sleep", "${marker}"]`,
  )
  failing.catch(() => {})
  const steps = async () =>
    (await processesWith(marker)).filter(({ program }) => program === 'busybox')
  await until('the step runs', async () => (await steps()).length > 0)
  process.kill(await buildkitdOf(network.configFile), 'SIGSTOP')
  await until('the handle is told', () => handle.ended.aborted)
  const reason = handle.ended.reason as HearthError
  t.true(reason instanceof HearthError)
  t.is(reason.code, 'unavailable')
  const dump = /^BuildKit of app\/main hung for \d+ s and was replaced; its dump is (.*)$/.exec(
    reason.message,
  )?.[1]
  t.is(path.dirname(dump ?? ''), path.join(folder, 'app/main'))
  const stacks = await readFile(dump ?? '', 'utf8')
  t.regex(stacks, /^goroutine \d+ /m)
  // What a maintainer of BuildKit would look for: where the solve was.
  t.regex(stacks, /solver/)
  await t.throwsAsync(failing)
  t.deepEqual(await steps(), [])

  using next = await pool.acquire(mainScope, { signal: soon() })
  t.false(next.ended.aborted)
  t.regex(await build(t, next, 'FROM scratch\nCOPY busybox /'), /DONE/)
  handle[Symbol.dispose]()
})

test('an idle buildkitd that hangs is replaced before the next build needs it', async (t) => {
  const { pool } = await openPool(t, { hang })
  const handle = await pool.acquire(mainScope, { signal: soon() })
  const network = await networkOf(handle)
  handle[Symbol.dispose]()
  process.kill(await buildkitdOf(network.configFile), 'SIGSTOP')
  await until('it is gone', async () => (await processesWith(network.configFile)).length === 0)
  await until('nothing of it is left', async () => (await leavings(network)).length === 0)
  using next = await pool.acquire(mainScope, { signal: soon() })
  t.regex(await build(t, next, 'FROM scratch\nCOPY busybox /'), /DONE/)
})

test('a hanging buildkitd is no obstacle to an orderly end', async (t) => {
  const { pool, folder } = await openPool(t, { hang, stopLimitMs: 500 })
  const handle = await pool.acquire(mainScope, { signal: soon() })
  const network = await networkOf(handle)
  process.kill(await buildkitdOf(network.configFile), 'SIGSTOP')
  await pool[Symbol.asyncDispose]()
  t.deepEqual(await processesWith(network.configFile), [])
  t.deepEqual(await leavings(network), [])
  t.regex((handle.ended.reason as HearthError).message, /was stopped$/)
  const left = await readdir(path.join(folder, 'app/main'))
  t.deepEqual(
    left.filter((name) => name.includes('hang')),
    [],
  )
})
