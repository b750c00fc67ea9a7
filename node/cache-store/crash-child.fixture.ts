/**
 * The process that the crash tests kill. It works on a store and says what has been acknowledged, one line
 * each, with writes that do not wait in a buffer.
 *
 *   crash-child FOLDER at POINT ACTION   kills itself with SIGKILL when ACTION reaches POINT
 *   crash-child FOLDER half              writes half a blob, says so, and waits to be killed
 *   crash-child FOLDER hold              opens the store and waits to be killed
 *   crash-child FOLDER churn SEED        puts, adopts and removes until it is killed
 *   crash-child FOLDER fill              puts until that fails, says why, and whether the store still works
 */
import { writeSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { type Digest, digestOf } from '../../core/digest.ts'
import { toHearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { type CacheStore, openCacheStore } from './index.ts'
import { never, put, scope } from './temporary-store.fixture.ts'

const [folder = '', mode = '', ...rest] = process.argv.slice(2)

function say(line: string): void {
  writeSync(1, `${line}\n`)
}

function forever(): Promise<never> {
  setInterval(() => undefined, 1 << 30)
  return new Promise(() => undefined)
}

/** Several reads and writes long, and another for every seed. */
export function bytesOf(seed: string, size = 600_000): Buffer {
  return Buffer.alloc(size, seed)
}

async function adopt(store: CacheStore, bytes: Buffer): Promise<Digest> {
  const file = `${folder}/../adopted-${process.pid}`
  await writeFile(file, bytes)
  await store.adopt(scope, digestOf(bytes), file, { signal: never })
  await rm(file)
  return digestOf(bytes)
}

async function dieAt(point: string, action: string): Promise<void> {
  let armed = false
  const store = await openCacheStore({
    folder,
    log: silentLogger,
    atPoint: (reached) => {
      if (armed && reached === point) process.kill(process.pid, 'SIGKILL')
    },
  })
  const bytes = bytesOf('crash')
  if (action === 'remove' || action === 'reset') await put(store, scope, bytes)
  armed = true
  if (action === 'put') await put(store, scope, bytes)
  if (action === 'adopt') await adopt(store, bytes)
  if (action === 'remove') await store.remove(scope, digestOf(bytes))
  if (action === 'reset') await store.reset(scope)
  say('survived')
}

async function churn(seed: string): Promise<void> {
  const store = await openCacheStore({ folder, log: silentLogger })
  say('ready')
  for (let i = 0; ; i++) {
    const seeds = [0, 1, 2, 3].map((n) => `${seed}-${i}-${n} `)
    await Promise.all(
      seeds.map(async (name, n) => {
        await (n === 3 ? adopt(store, bytesOf(name)) : put(store, scope, bytesOf(name)))
        say(`kept ${name}`)
        if (n !== 0) return
        say(`removing ${name}`)
        await store.remove(scope, digestOf(bytesOf(name)))
      }),
    )
  }
}

async function fill(): Promise<void> {
  const store = await openCacheStore({ folder, log: silentLogger })
  const kept: Digest[] = []
  try {
    for (let i = 0; ; i++) kept.push(await put(store, scope, bytesOf(`${i} `, 300_000)))
  } catch (error) {
    say(toHearthError(error).code)
  }
  await store.reset(scope)
  await put(store, scope, bytesOf('after', 300_000))
  await store[Symbol.asyncDispose]()
  say(kept.length > 0 ? 'goes on' : 'kept nothing')
}

if (mode === 'at') await dieAt(rest[0] ?? '', rest[1] ?? '')
if (mode === 'hold') {
  await openCacheStore({ folder, log: silentLogger })
  say('ready')
  await forever()
}
if (mode === 'half') {
  const store = await openCacheStore({ folder, log: silentLogger })
  const writer = await store.createWriter(scope)
  await writer.write(bytesOf('half'))
  say('ready')
  await forever()
}
if (mode === 'churn') await churn(rest[0] ?? '')
if (mode === 'fill') await fill()
