/**
 * Many peers of a fleet in one process. Notes when each hears of news and of members, by the clock that all processes
 * of the machine share.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createMembershipVerifier, type Entry, type SignedMembership } from '../../mesh/index.ts'
import { answerQuestions } from '../programs.ts'
import { seededRandom } from '../routing/seeded-random.ts'
import type { ScaledMesh } from './memory-mesh.ts'
import { createMemoryNetwork } from './memory-network.ts'
import { openPeer } from './open-peer.ts'
import { countSocketBytes } from './socket-bytes.ts'

export interface StartPeers {
  transport: 'libp2p' | 'memory'
  peers: number
  /** The first of them. */
  hubs: number
  /** So many of them have anything to say. */
  tellers: number
  folder: string
  /** The key that signs memberships. */
  keyPem: string
}

/** An advert that was said: `atMs` before the log had it. */
export interface Said {
  publisher: string
  sequence: number
  atMs: number
}

export type PeersQuestion =
  /** Answer: `memberships`. */
  | ({ type: 'start' } & StartPeers)
  /** Here are all; answer when each of this process is connected as it should be and knows of all: `atMs`. */
  | { type: 'meet'; memberships: string[]; tellers: number }
  /** Answer: what was `said`, one after the other by all that have anything to say. */
  | { type: 'tell'; adverts: number; everyMs: number; entries: number }
  /** Answer when all of this process know of it: `lagsMs` of each advert, one for each peer. */
  | { type: 'heard'; said: Said[] }
  /** Answer: `bytes` sent and received so far. */
  | { type: 'traffic' }
  /** One more, that is told of all as the coordinator would. Answer: `peerId`, `atMs` before it came. */
  | { type: 'come'; memberships: string[] }
  /** It goes. Answer: `atMs` before that. */
  | { type: 'go' }
  /** Answer when all of this process know that it is there, or not: `atMs` of the last. */
  | { type: 'noticed'; peerId: string; isThere: boolean }

export interface PeersAnswer {
  memberships?: string[]
  atMs?: number
  said?: Said[]
  lagsMs?: number[][]
  bytes?: number
  peerId?: string
}

/** On a machine that is busy. */
const patienceMs = 300_000
const lookMs = 50

const socketBytes = countSocketBytes()
const peers: ScaledMesh[] = []
/** By publisher: who heard of which sequence, and when. */
const heard = new Map<string, { listener: ScaledMesh; sequence: number; atMs: number }[]>()
let realm: ReturnType<typeof createRealm> | undefined
let newcomer: ScaledMesh | undefined

function createRealm(options: StartPeers, key: KeyObject) {
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const verifier = createMembershipVerifier({ publicKeys: [publicKey] })
  const network = options.transport === 'memory' ? createMemoryNetwork(verifier) : undefined
  return { key, verifier, network, folder: options.folder }
}

function presentRealm() {
  if (realm === undefined) throw new Error('nothing was started')
  return realm
}

async function answer(question: PeersQuestion): Promise<PeersAnswer> {
  switch (question.type) {
    case 'start':
      return { memberships: (await start(question)).map(toText) }
    case 'meet':
      return { atMs: await meet(question.memberships.map(fromText), question.tellers) }
    case 'tell':
      return { said: await tell(question) }
    case 'heard':
      return { lagsMs: await lagsOf(question.said) }
    case 'traffic':
      return { bytes: realm?.network?.bytes() ?? socketBytes() }
    case 'come':
      return await come(question.memberships.map(fromText))
    case 'go': {
      const atMs = nowMs()
      await newcomer?.[Symbol.asyncDispose]()
      newcomer = undefined
      return { atMs }
    }
    case 'noticed': {
      const { peerId, isThere } = question
      await untilEach(
        ({ host, relay }) =>
          relay.isPresent(peerId) === isThere && (!isThere || host.member(peerId) !== undefined),
      )
      return { atMs: nowMs() }
    }
  }
}

async function start(question: StartPeers): Promise<SignedMembership[]> {
  realm = createRealm(question, createPrivateKey(question.keyPem))
  const memberships: SignedMembership[] = []
  for (let number = 0; number < question.peers; number += 1) {
    const { mesh, signed } = await openPeer({
      ...realm,
      folder: path.join(question.folder, `peer-${number}`),
      isHub: number < question.hubs,
      advertises: number < question.tellers,
    })
    mesh.onNews((publisher, { sequence }) => {
      const news = heard.get(publisher) ?? []
      news.push({ listener: mesh, sequence, atMs: nowMs() })
      heard.set(publisher, news)
    })
    peers.push(mesh)
    memberships.push(signed)
  }
  return memberships
}

/** @param tellers in the whole fleet. */
async function meet(memberships: readonly SignedMembership[], tellers: number): Promise<number> {
  for (const { host } of peers) {
    host.learn(memberships)
    await delay(0)
  }
  await untilEach(({ host, relay, index, adverts }) => {
    const members = host.members()
    const standing = relay.standing()
    // Its own node is in the index of who says anything.
    const publishers = index.nodes().filter(({ node }) => node !== host.peerId).length
    return (
      members.length === memberships.length - 1 &&
      !standing.isFullMesh &&
      standing.hubs.every((hub) => host.member(hub)?.connected === true) &&
      publishers === tellers - (adverts === undefined ? 0 : 1) &&
      members.every(({ membership }) => relay.isPresent(membership.peerId))
    )
  })
  return nowMs()
}

async function tell(question: Extract<PeersQuestion, { type: 'tell' }>): Promise<Said[]> {
  const { adverts: count, everyMs, entries } = question
  const tellers = peers.filter(({ adverts }) => adverts !== undefined)
  const saying: Promise<Said>[] = []
  const startedAtMs = nowMs()
  for (let number = 0; number < count; number += 1) {
    const teller = tellers[number % tellers.length]
    if (teller !== undefined) saying.push(say(teller, entriesOf(number, entries)))
    await delay(Math.max(0, startedAtMs + (number + 1) * everyMs - nowMs()))
  }
  return await Promise.all(saying)
}

async function say({ host, adverts }: ScaledMesh, entries: Entry[]): Promise<Said> {
  const atMs = nowMs()
  await adverts?.publish(entries)
  return { publisher: host.peerId, sequence: adverts?.position().sequence ?? 0, atMs }
}

async function lagsOf(said: readonly Said[]): Promise<number[][]> {
  const lags: number[][] = []
  for (const { publisher, sequence, atMs } of said) {
    const listeners = peers.filter(({ host }) => host.peerId !== publisher).length
    const first = new Map<ScaledMesh, number>()
    const look = () => {
      for (const one of heard.get(publisher) ?? []) {
        // What was missed comes at once with what follows it.
        if (one.sequence >= sequence && !first.has(one.listener)) first.set(one.listener, one.atMs)
      }
      return first.size >= listeners
    }
    await until(look)
    lags.push([...first.values()].map((each) => each - atMs))
  }
  return lags
}

async function come(memberships: readonly SignedMembership[]): Promise<PeersAnswer> {
  const here = presentRealm()
  const { mesh, signed } = await openPeer({
    ...here,
    ...{ folder: path.join(here.folder, 'newcomer'), isHub: false, advertises: true },
  })
  newcomer = mesh
  const atMs = nowMs()
  mesh.host.learn(memberships)
  return { peerId: mesh.host.peerId, memberships: [toText(signed)], atMs }
}

function entriesOf(seed: number, count: number): Entry[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (): Entry => {
    const key = Buffer.from(Array.from({ length: 16 }, () => Math.floor(random.next() * 256)))
    return { key, size: 1_000_000, heat: 'hot' }
  })
}

/** Looks at each until it fits, and not again. */
async function untilEach(fits: (mesh: ScaledMesh) => boolean): Promise<void> {
  let left = [...peers]
  await until(() => {
    left = left.filter((mesh) => !fits(mesh))
    return left.length === 0
  })
}

/** @throws Error when it takes too long. */
async function until(condition: () => boolean): Promise<void> {
  const endsAtMs = nowMs() + patienceMs
  while (!condition()) {
    if (nowMs() > endsAtMs) throw new Error('the peers do not hear of each other')
    await delay(lookMs)
  }
}

function toText(signed: SignedMembership): string {
  return Buffer.from(signed).toString('base64')
}

function fromText(text: string): SignedMembership {
  return Buffer.from(text, 'base64')
}

/** The monotonic clock of the machine, the same in all processes. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

answerQuestions(answer, async () => {
  await newcomer?.[Symbol.asyncDispose]()
  await Promise.all(peers.map((peer) => peer[Symbol.asyncDispose]()))
})
