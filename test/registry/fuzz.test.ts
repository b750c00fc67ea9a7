/**
 * Any request whatever: the registry answers or cuts, in time, never with a failure of its own, and nothing
 * is left of it. Another seed or more of it: `ava test/registry/fuzz.test.ts -- --seed 7 --requests 100000`.
 */
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import test from 'ava'
import { silentLogger } from '../../core/log.ts'
import {
  createMirror,
  createRegistry,
  openManifestTable,
} from '../../node/buildkit-runner/registry/index.ts'
import { startFakeUpstream } from '../../node/buildkit-runner/registry/mirror/upstream.fixture.ts'
import {
  freshBytes,
  openFixture,
  otherScope,
  scope,
} from '../../node/buildkit-runner/registry/temporary-registry.fixture.ts'
import { type Conversation, type Known, makeConversation, randomFrom } from './requests.ts'

const { values } = parseArgs({
  options: { seed: { type: 'string' }, requests: { type: 'string' } },
  strict: false,
})
const seed = Number(values.seed ?? 20_261_123)
const conversations = Number(values.requests ?? 3000)
const atOnce = 8

/** The registry's own patience with a connection that says nothing, and ours with the registry. */
const idleMs = 3000
const limitMs = 20_000

interface Heard {
  readonly text: string
  readonly statuses: readonly number[]
}

/** @throws Error when the connection is still open at the limit. */
async function converse(port: number, { pieces, pauseMs, end }: Conversation): Promise<Heard> {
  const socket = connect(port, '127.0.0.1')
  const heard: Buffer[] = []
  socket.on('data', (chunk: Buffer) => heard.push(chunk))
  // A connection that the registry cuts while we still send is an answer, too.
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const limit = new AbortController()
  const late = delay(limitMs, 'late' as const, { signal: limit.signal }).catch(
    () => 'closed' as const,
  )
  for (const [place, piece] of pieces.entries()) {
    if (place > 0) await delay(pauseMs)
    if (!socket.destroyed) socket.write(piece)
  }
  if (end === 'leave') socket.destroySoon()
  const outcome = await Promise.race([closed.then(() => 'closed' as const), late])
  limit.abort()
  socket.destroy()
  if (outcome === 'late') throw new Error(`still open after ${limitMs} ms`)
  const text = Buffer.concat(heard).toString('latin1')
  const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]))
  return { text, statuses }
}

/** What is wrong with an answer, if anything. */
function complaintOf(
  { isSound, method }: Conversation,
  { text, statuses }: Heard,
): string | undefined {
  if (statuses.some((status) => status >= 500)) return 'a failure of the registry itself'
  if (!isSound) return undefined
  const status = statuses.find((each) => each !== 100)
  if (status === undefined) return 'no answer to a sound request'
  if (status < 400 || method === 'HEAD') return undefined
  const head = text.slice(0, text.lastIndexOf('\r\n\r\n'))
  // Node answers by itself what is no HTTP.
  if (status === 400 && !/content-type/i.test(head)) return undefined
  const body = JSON.parse(text.slice(text.lastIndexOf('\r\n\r\n') + 4)) as {
    errors: { code: string; message: string }[]
  }
  return /^[A-Z_]+$/.test(body.errors[0]?.code ?? '') ? undefined : 'an error without a code'
}

const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length

test('no request makes it fail, hang or keep anything', async (t) => {
  t.timeout(300_000)
  t.log(`--seed ${seed} --requests ${conversations}`)
  await using upstream = await startFakeUpstream()
  await using fixture = await openFixture({ listen: false })
  const { store, folder } = fixture
  const log = silentLogger
  await using manifests = await openManifestTable(
    { store, log },
    { folder: path.join(folder, 'fuzzed-manifests') },
  )
  const downloads = path.join(folder, 'downloads')
  await using mirror = await createMirror(
    { store, manifests, log },
    { folder: downloads, upstreams: [upstream.host], unreadMs: 100 },
  )
  await using registry = await createRegistry(
    { store, manifests, mirror, log, contentFile: () => undefined },
    { idleMs, keepAliveMs: 1000, uploadIdleMs: 1000, uploadsMax: 16 },
  )
  const grantOf = (request: { right: 'read' | 'write'; tags?: 'of the scope' }, of = scope) =>
    registry.grant({ ...request, scope: of, lifetimeMs: 600_000 }).capability
  const ended = registry.grant({ scope, right: 'write', lifetimeMs: 600_000 })
  ended[Symbol.dispose]()
  const image = upstream.addImage('base', 'latest', freshBytes(5000).bytes)
  const manifest = JSON.stringify({ schemaVersion: 2, layers: [] })
  const known: Known = {
    capabilities: [
      grantOf({ right: 'write', tags: 'of the scope' }),
      grantOf({ right: 'write', tags: 'of the scope' }, otherScope),
      grantOf({ right: 'read', tags: 'of the scope' }),
      grantOf({ right: 'write' }),
      grantOf({ right: 'read' }),
      mirror.paths.get(upstream.host) ?? '',
      ended.capability,
      '0'.repeat(40),
    ],
    names: ['app', 'team/app', 'base', 'a/b/c/d', 'x'.repeat(200)],
    blobs: [
      await fixture.put(freshBytes(40_000).bytes),
      await fixture.put(Buffer.alloc(0)),
      image.layer,
    ],
    manifests: [await fixture.put(Buffer.from(manifest)), image.manifest],
    tags: ['latest', 'v1', 'v1.0', '_x', 'A'],
    uploads: [],
  }
  const filesBefore = await openFiles()
  const memoryBefore = process.memoryUsage().rss

  let next = 0
  const work = async () => {
    for (let number = next++; number < conversations; number = next++) {
      const conversation = makeConversation(randomFrom(seed * 1_000_003 + number), known)
      const wire = () => Buffer.concat(conversation.pieces).toString('latin1').slice(0, 1000)
      const shown = `--seed ${seed}, conversation ${number}`
      const heard = await converse(registry.port, conversation).catch((error: unknown) => {
        throw new Error(`${shown}: ${error}\n${wire()}`)
      })
      const complaint = complaintOf(conversation, heard)
      if (complaint !== undefined) {
        throw new Error(`${shown}: ${complaint}\n${wire()}\n---\n${heard.text.slice(0, 1000)}`)
      }
      for (const [, location] of heard.text.matchAll(/location: (\S+\/blobs\/uploads\/\w+)/gi)) {
        if (location !== undefined) known.uploads.unshift(location)
        if (known.uploads.length > 20) known.uploads.pop()
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))

  // It still works, and uploads that were left alone are gone.
  const { statuses } = await converse(registry.port, {
    ...{ pauseMs: 0, end: 'wait', isSound: true, method: 'GET' },
    pieces: [Buffer.from('GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')],
  })
  t.deepEqual(statuses, [200])
  const temporary = path.join(folder, 'store', 'tmp')
  const limit = AbortSignal.timeout(30_000)
  const isClean = async () =>
    (await readdir(temporary)).length === 0 &&
    (await readdir(downloads)).length === 0 &&
    (await openFiles()) <= filesBefore + 5
  while (!(await isClean())) {
    if (limit.aborted) break
    await delay(100)
  }
  t.deepEqual(await readdir(temporary), [])
  t.deepEqual(await readdir(downloads), [])
  t.true(
    (await openFiles()) <= filesBefore + 5,
    `${filesBefore} files before, ${await openFiles()} after`,
  )
  const grownBytes = process.memoryUsage().rss - memoryBefore
  t.true(grownBytes < 300_000_000, `memory grew by ${grownBytes} bytes`)
})
