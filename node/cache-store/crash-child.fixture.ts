/**
 * The process that the crash tests kill. It works on a store and says what has been acknowledged, one line
 * each, with writes that do not wait in a buffer.
 *
 *   crash-child FOLDER at POINT ACTION   kills itself with SIGKILL when ACTION reaches POINT
 *   crash-child FOLDER half              writes half a blob, says so, and waits to be killed
 *   crash-child FOLDER hold              opens the store and waits to be killed
 *   crash-child FOLDER churn SEED        puts, adopts and removes until it is killed
 *   crash-child FOLDER fill              fills the disk, says what fails for it, and whether the store still works
 */
import { writeSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { type Digest, digestOf } from '../../core/digest.ts'
import { toHearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
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

/** First the blobs find no space, then, with not a byte left, the index does not. */
async function fill(): Promise<void> {
  const filler = `${folder}/../filler`
  const store = await openCacheStore({ folder, log: silentLogger })
  const first = await put(store, scope, bytesOf('first'))
  await sayFailure(async (i) => put(store, scope, bytesOf(`${i} `)))
  await store.reset(makeScope('nobody', 'main'))
  await sayFailure(async (i) => writeFile(filler, bytesOf(`${i}`, 512), { flag: 'a' }))
  await sayFailure(async (i) => store.share(scope, makeScope(`p${i}`, 'main'), first))
  await rm(filler)
  const last = await put(store, scope, bytesOf('last', 100))
  await store.remove(scope, first)
  await store[Symbol.asyncDispose]()
  {
    await using again = await openCacheStore({ folder, log: silentLogger })
    say(again.stat(scope, last)?.size === 100 ? 'goes on' : 'lost')
  }
}

async function sayFailure(run: (i: number) => Promise<unknown>): Promise<void> {
  try {
    for (let i = 0; i < 100_000; i++) await run(i)
  } catch (error) {
    say(toHearthError(error).code)
  }
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
