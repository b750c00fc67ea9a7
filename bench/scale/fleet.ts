/** A fleet of peers in a few processes: what is asked of all, and what comes of it. */
import { generateKeyPairSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Program, startProgram } from '../programs.ts'
import type { PeersAnswer, PeersQuestion, StartPeers } from './peers.ts'

export interface FleetOptions extends Pick<StartPeers, 'transport'> {
  folder: string
  processes: number
  /** In all, evenly over the processes. */
  peers: number
  hubs: number
  /** So many of them, hubs among them, ever say anything. */
  tellers: number
}

export interface Fleet extends AsyncDisposable {
  /** Ms from the moment that all were told of all until each is connected as it should be and knows who is there. */
  readonly metMs: number
  /** One advert after the other, by turns; resolves when all have heard of all. */
  load(options: { adverts: number; everyMs: number; entries: number }): Promise<LoadAnswer>
  /** Bytes that a peer sends and receives in a second. */
  traffic(forMs: number): Promise<number>
  /** Ms until all know that one more has come, and that it has gone. */
  newcomer(): Promise<{ cameMs: number; wentMs: number }>
}

export interface LoadAnswer {
  /** Of each advert, ms until the last peer had it. */
  toLastMs: number[]
  /** Of each advert and peer. */
  toEachMs: number[]
  bytesPerPeerPerS: number
}

const program = new URL('./peers.ts', import.meta.url)

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { transport, processes, peers } = options
  await using stack = new AsyncDisposableStack()
  const parts: Program<PeersQuestion, PeersAnswer>[] = []
  const all = (question: PeersQuestion) => Promise.all(parts.map((part) => part.ask(question)))
  const { privateKey } = generateKeyPairSync('ed25519')
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const answers = await Promise.all(
    Array.from({ length: processes }, async (_, number) => {
      const folder = path.join(options.folder, `peers-${number}`)
      await mkdir(folder)
      const part = stack.use(startProgram<PeersQuestion, PeersAnswer>(program))
      parts.push(part)
      const share = (count: number) => shareOf(count, number, processes)
      return await part.ask({
        ...{ type: 'start', transport, folder, keyPem },
        ...{ peers: share(peers), hubs: share(options.hubs), tellers: share(options.tellers) },
      })
    }),
  )
  const memberships = answers.flatMap((answer) => answer.memberships ?? [])
  const bytes = async () =>
    (await all({ type: 'traffic' })).reduce((sum, part) => sum + (part.bytes ?? 0), 0)
  const last = (found: readonly PeersAnswer[]) => Math.max(...found.map(({ atMs = 0 }) => atMs))
  const beforeMs = nowMs()
  const met = await all({ type: 'meet', memberships, tellers: options.tellers })
  const owned = stack.move()
  return {
    metMs: last(met) - beforeMs,
    async load({ adverts, everyMs, entries }) {
      const startedAtMs = nowMs()
      const before = await bytes()
      const told = await Promise.all(
        parts.map(async (part, number) => {
          // Each after the one before, so that they take turns evenly.
          await delay((everyMs * number) / processes)
          return await part.ask({
            ...{ type: 'tell', adverts: shareOf(adverts, number, processes) },
            ...{ everyMs: everyMs * processes, entries },
          })
        }),
      )
      const said = told.flatMap((part) => part.said ?? [])
      const lags = (await all({ type: 'heard', said })).map((part) => part.lagsMs ?? [])
      const seconds = (nowMs() - startedAtMs) / 1_000
      const byAdvert = said.map((_, number) => lags.flatMap((part) => part[number] ?? []))
      return {
        toLastMs: byAdvert.map((ofOne) => Math.max(...ofOne)),
        toEachMs: byAdvert.flat(),
        bytesPerPeerPerS: ((await bytes()) - before) / peers / seconds,
      }
    },
    async traffic(forMs) {
      const startedAtMs = nowMs()
      const before = await bytes()
      await delay(forMs)
      return ((await bytes()) - before) / peers / ((nowMs() - startedAtMs) / 1_000)
    },
    async newcomer() {
      const [first] = parts
      const came = await first?.ask({ type: 'come', memberships })
      const { peerId = '', atMs: cameAtMs = 0 } = came ?? {}
      const known = await all({ type: 'noticed', peerId, isThere: true })
      const gone = await first?.ask({ type: 'go' })
      const missed = await all({ type: 'noticed', peerId, isThere: false })
      return { cameMs: last(known) - cameAtMs, wentMs: last(missed) - (gone?.atMs ?? 0) }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Of so many, evenly over the processes, the first ones having one more. */
function shareOf(count: number, number: number, processes: number): number {
  return Math.floor(count / processes) + (number < count % processes ? 1 : 0)
}

/** The monotonic clock of the machine, the same in all processes. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
