/**
 * Several real peers in one process: hosts, logs and indexes over folders of their own, as nodes have them. Notes
 * when each hears of news, by the clock that all processes of the machine share.
 */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import path from 'node:path'
import { silentLogger } from '../../core/log.ts'
import {
  createMembershipVerifier,
  type Entry,
  issueMembership,
  type Mesh,
  openMesh,
  openPeerIdentity,
} from '../../mesh/index.ts'
import { answerQuestions } from '../programs.ts'
import { seededRandom } from '../routing/seeded-random.ts'

export type CrowdQuestion =
  /** Answer: `memberships`. */
  | { type: 'start'; peers: number; folder: string; keyPem: string }
  /** Answer when each of this process is connected to all others. */
  | { type: 'meet'; memberships: string[] }
  /** Answer: `publisher`, `sequence`, `atMs`. */
  | { type: 'publish'; peer: number; seed: number; entries: number }
  /** Answer when all of this process know it: `atMs` of the last. */
  | { type: 'heard'; publisher: string; sequence: number }

export interface CrowdAnswer {
  memberships?: string[]
  publisher?: string
  sequence?: number
  atMs?: number
}

const peers: Mesh[] = []
/** By publisher, in the order in which the peers of this process heard. */
const heard = new Map<string, { listener: Mesh; sequence: number; atMs: number }[]>()
const waiting = new Set<() => void>()
/** For all peers to meet, on a machine that is busy. */
const patienceMs = 120_000

async function answer(question: CrowdQuestion): Promise<CrowdAnswer> {
  switch (question.type) {
    case 'start':
      return { memberships: await start(question) }
    case 'meet': {
      const others = question.memberships.map((text) => Buffer.from(text, 'base64'))
      for (const { host } of peers) host.learn(others)
      const isMet = ({ host }: Mesh) =>
        host.members().filter(({ connected }) => connected).length === others.length - 1
      await until(() => peers.every(isMet))
      return {}
    }
    case 'publish': {
      const { adverts, host } = peerAt(question.peer)
      const atMs = nowMs()
      await adverts.publish(entriesOf(question.seed, question.entries))
      return { publisher: host.peerId, sequence: adverts.position().sequence, atMs }
    }
    case 'heard': {
      const { publisher, sequence } = question
      const listeners = peers.filter(({ host }) => host.peerId !== publisher)
      // What was missed comes at once with what follows it.
      const timesMs = () =>
        listeners.flatMap((listener) => {
          const news = heard.get(publisher) ?? []
          const first = news.find((one) => one.listener === listener && one.sequence >= sequence)
          return first?.atMs ?? []
        })
      await until(() => timesMs().length === listeners.length)
      return { atMs: Math.max(0, ...timesMs()) }
    }
  }
}

async function start(question: Extract<CrowdQuestion, { type: 'start' }>): Promise<string[]> {
  const key = createPrivateKey(question.keyPem)
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const verifier = createMembershipVerifier({ publicKeys: [publicKey] })
  const memberships: string[] = []
  for (let count = 0; count < question.peers; count += 1) {
    const folder = path.join(question.folder, `peer-${count}`)
    const identity = await openPeerIdentity(path.join(folder, 'peer.pem'))
    const issue = (addresses: string[], nowMs: number) =>
      issueMembership(
        key,
        {
          ...{ peerId: identity.peerId, nodeId: identity.peerId, roles: ['node'] },
          ...{ addresses, bulkAddress: '' },
        },
        { nowMs },
      )
    const mesh = await openMesh(
      { identity, verifier, log: silentLogger },
      {
        ...{ folder, advertises: true, listen: ['/ip4/127.0.0.1/tcp/0'] },
        membership: issue([], Date.now() - 1),
      },
    )
    const membership = issue(mesh.host.addresses(), Date.now())
    mesh.host.renew(membership)
    mesh.onNews((publisher, { sequence }) => {
      const news = heard.get(publisher) ?? []
      news.push({ listener: mesh, sequence, atMs: nowMs() })
      heard.set(publisher, news)
      ring()
    })
    mesh.host.onPeer(ring)
    peers.push(mesh)
    memberships.push(Buffer.from(membership).toString('base64'))
  }
  return memberships
}

function peerAt(index: number) {
  const mesh = peers[index]
  if (mesh?.adverts === undefined) throw new RangeError(`no peer ${index}`)
  return { host: mesh.host, adverts: mesh.adverts }
}

function entriesOf(seed: number, count: number): Entry[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (): Entry => {
    const key = Buffer.from(Array.from({ length: 16 }, () => Math.floor(random.next() * 256)))
    return { key, size: 1_000_000, heat: 'hot' }
  })
}

function ring(): void {
  for (const wake of waiting) wake()
}

/** Looks again whenever something was heard. @throws Error when that takes too long. */
async function until(condition: () => boolean): Promise<void> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => late.reject(new Error('the peers do not hear of each other')),
    patienceMs,
  )
  try {
    while (!condition()) {
      const rung = Promise.withResolvers<void>()
      waiting.add(rung.resolve)
      await Promise.race([rung.promise, late.promise])
      waiting.delete(rung.resolve)
    }
  } finally {
    clearTimeout(timer)
  }
}

/** The monotonic clock of the machine, the same in all processes. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

answerQuestions(answer, async () => {
  await Promise.all(peers.map((peer) => peer[Symbol.asyncDispose]()))
})
