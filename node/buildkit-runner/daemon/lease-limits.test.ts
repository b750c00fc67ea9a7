import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import ava from 'ava'
import { gib, mib } from '../../../core/limits.ts'
import type { DaemonHandle } from './index.ts'
import { shareOfThisMachine } from './lease-limits.ts'
import { build, mainScope, openPool, soon, until } from './pool-fixture.ts'

// One after another: a dozen daemons at once would time the machine, not the code.
const test = ava.serial

const memoryBytes = 96 * mib
const share = { memoryBytes, cpus: 0.5, pids: 40 }

const mountPoint = '/sys/fs/cgroup'
const unified = existsSync(`${mountPoint}/cgroup.controllers`)

async function memoryLimit({ controlGroup }: DaemonHandle): Promise<number> {
  const file = unified
    ? `${mountPoint}/${controlGroup}/memory.max`
    : `${mountPoint}/memory/${controlGroup}/memory.limit_in_bytes`
  return Number(await readFile(file, 'utf8'))
}

function step(command: string): string {
  const words = JSON.stringify(['/bin/busybox', 'sh', '-c', command])
  return `FROM scratch\nCOPY busybox /bin/busybox\nRUN ${words}`
}

/** Doubles a text until it is as long. */
const fill = (bytes: number): string =>
  `/bin/busybox awk 'BEGIN { s = "x"; while (length(s) < ${bytes}) s = s s; print length(s) }'`

test('a step that takes too much memory is killed, and the daemon lives on', async (t) => {
  const { pool } = await openPool(t, { perLease: share })
  using handle = await pool.acquire(mainScope, { signal: soon() })
  t.is(await memoryLimit(handle), memoryBytes)
  // As much as fits does fit.
  await build(t, handle, step(fill(16 * mib)))
  const error = await t.throwsAsync(build(t, handle, step(fill(512 * mib))))
  t.regex(error?.message ?? '', /exit code: 137/)
  t.false(handle.ended.aborted)
  await build(t, handle, step('echo alive'))
})

test('with more leases there is more to share, and less again with fewer', async (t) => {
  const { pool } = await openPool(t, { perLease: share })
  pool.setLeases(mainScope, 3)
  using handle = await pool.acquire(mainScope, { signal: soon() })
  t.is(await memoryLimit(handle), 3 * memoryBytes)
  await build(t, handle, step(fill(128 * mib)))
  pool.setLeases(mainScope, 0)
  await until('the limit is that of one', async () => (await memoryLimit(handle)) === memoryBytes)
})

test('a step cannot have more processes than its share', async (t) => {
  const { pool } = await openPool(t, { perLease: share })
  using handle = await pool.acquire(mainScope, { signal: soon() })
  const many = 'i=0; while [ $i -lt 100 ]; do /bin/busybox sleep 30 & i=$((i+1)); done; echo all'
  const error = await t.throwsAsync(build(t, handle, step(many)))
  t.regex(error?.message ?? '', /can't fork/)
  t.false(handle.ended.aborted)
})

test('every slot of a machine has an equal part of its memory, and at least one gibibyte', (t) => {
  const one = shareOfThisMachine(1)
  t.is(one.cpus, undefined)
  t.is(shareOfThisMachine(2).memoryBytes, Math.max(gib, Math.floor(one.memoryBytes / 2)))
  t.is(shareOfThisMachine(10_000).memoryBytes, gib)
  t.like(shareOfThisMachine(2, { memoryBytes: mib, cpus: 2 }), { memoryBytes: mib, cpus: 2 })
})
