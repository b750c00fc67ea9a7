import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { digestOf } from '../../core/digest.ts'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { bytesOf } from './crash-child.fixture.ts'
import { openCacheStore } from './index.ts'
import type { CrashPoint } from './publication.ts'
import {
  filesOf,
  never,
  read,
  scope,
  temporaryFolder,
  temporaryStore,
} from './temporary-store.fixture.ts'

const childFile = fileURLToPath(new URL('./crash-child.fixture.ts', import.meta.url))

type Child = ChildProcessByStdio<null, Readable, null>

function start(t: ExecutionContext, program: string, args: string[]): Child {
  // What a child prints to standard error is LMDB's own word on a full disk, at most.
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

function startChild(t: ExecutionContext, ...args: string[]): Child {
  return start(t, process.execPath, [childFile, ...args])
}

async function firstLine(child: Child): Promise<string> {
  const lines = createInterface({ input: child.stdout })
  const [line] = await once(lines, 'line')
  return String(line)
}

async function kill(child: Child): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

async function storeFolder(t: ExecutionContext): Promise<string> {
  return path.join(await temporaryFolder(t), 'store')
}

/** Opens the store as the next start would: every byte is right, every file has a row, nothing is left over. */
async function requireSound(t: ExecutionContext, folder: string): Promise<Set<string>> {
  await using store = await openCacheStore({ folder, log: silentLogger })
  for await (const event of store.verify({ signal: never })) {
    if (event.type === 'finding') t.fail(`${event.digest} ${event.problem}`)
  }
  const { blobs, temporary } = await filesOf(folder)
  t.deepEqual(temporary, [])
  t.is(store.usage().blobs, blobs.length)
  t.true(blobs.every((digest) => store.stat(scope, digest as `sha256:${string}`) !== undefined))
  return new Set(blobs)
}

const crash = test.macro({
  exec: async (t, action: string, point: CrashPoint, survives: boolean) => {
    const folder = await storeFolder(t)
    const child = startChild(t, folder, 'at', point, action)
    const output = child.stdout.toArray()
    const [code, signal] = await once(child, 'exit')
    t.deepEqual([code, signal, (await output).join('')], [null, 'SIGKILL', ''])
    const blobs = await requireSound(t, folder)
    t.deepEqual([...blobs], survives ? [digestOf(bytesOf('crash'))] : [])
  },
  title: (_, action, point, survives) =>
    `killed at "${point}" of a ${action}, the blob is ${survives ? 'there' : 'absent'} and nothing is left over`,
})

test(crash, 'put', 'temporary file synced', false)
test(crash, 'put', 'file published', false)
test(crash, 'put', 'row committed', true)
test(crash, 'adopt', 'file linked', false)
test(crash, 'adopt', 'file published', false)
test(crash, 'adopt', 'row committed', true)
test(crash, 'remove', 'row removed', false)
test(crash, 'reset', 'row removed', false)

test('killed in the middle of writing, nothing is left over', async (t) => {
  const folder = await storeFolder(t)
  const child = startChild(t, folder, 'half')
  await firstLine(child)
  t.is((await filesOf(folder)).temporary.length, 1)
  await kill(child)
  t.is((await requireSound(t, folder)).size, 0)
})

test('killed at any moment, what was acknowledged is there and the rest is whole or absent', async (t) => {
  const folder = await storeFolder(t)
  const expected = new Set<string>()
  for (let round = 0; round < 5; round++) {
    const child = startChild(t, folder, 'churn', String(round))
    const lines = createInterface({ input: child.stdout })
    const seen: string[] = []
    const ended = once(lines, 'close')
    const acknowledged = Promise.withResolvers<void>()
    const enough = 1 + Math.floor(Math.random() * 12)
    lines.on('line', (line) => {
      seen.push(line)
      if (seen.filter((said) => said.startsWith('kept ')).length >= enough) acknowledged.resolve()
    })
    await Promise.race([acknowledged.promise, ended])
    // The one fixed sleep: a moment that nobody chose is the point.
    await setTimeout(Math.random() * 50)
    await kill(child)
    await ended
    const touched = seen.filter((line) => line.startsWith('removing ')).map((line) => line.slice(9))
    for (const line of seen) {
      const name = line.startsWith('kept ') ? line.slice(5) : undefined
      if (name !== undefined && !touched.includes(name)) expected.add(digestOf(bytesOf(name)))
    }
    const blobs = await requireSound(t, folder)
    t.deepEqual([...expected.difference(blobs)], [])
  }
  t.log(`${expected.size} blobs acknowledged`)
  t.true(expected.size > 0)
})

test('a store is one process at a time, and a killed one does not block the next', async (t) => {
  const folder = await storeFolder(t)
  const child = startChild(t, folder, 'hold')
  await firstLine(child)
  const opening = openCacheStore({ folder, log: silentLogger })
  const error = await t.throwsAsync(opening, { instanceOf: HearthError })
  t.is(error?.code, 'unavailable')
  t.regex(error?.message ?? '', new RegExp(`process ${child.pid}`))
  await kill(child)
  const { store } = await temporaryStore(t, { folder })
  const again = await t.throwsAsync(openCacheStore({ folder, log: silentLogger }))
  t.is((again as HearthError).code, 'unavailable')
  t.is(await read(store, scope, digestOf('x')), undefined)
})

test('a full disk is an error of its own, and the store goes on when there is space again', async (t) => {
  const folder = await temporaryFolder(t)
  // A file system of 8 MB in a mount namespace of the child's own: gone with it.
  const script = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" "$3" "$1/store" fill'
  const child = start(t, 'unshare', [
    ...['-m', 'sh', '-c', script, 'sh'],
    ...[folder, process.execPath, childFile],
  ])
  const output = await child.stdout.toArray()
  t.is(output.join(''), 'exhausted\nexhausted\nexhausted\ngoes on\n')
})
