/** Real peers on loopback with a coordinator's key of their own, for tests. Everything goes with the test. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { type Logger, silentLogger } from '../core/log.ts'
import {
  createMeshHost,
  type MeshHost,
  type MeshHostOptions,
  openPeerIdentity,
  openRoster,
  type PeerEvent,
  type PeerIdentity,
} from './host/index.ts'
import { createMembershipVerifier, issueMembership, type MemberFacts } from './membership/index.ts'

/** Nothing here takes longer unless it hangs. */
export const patienceMs = 20_000

/** Who signs memberships. */
export interface Realm {
  readonly privateKey: KeyObject
  readonly publicKey: Buffer
}

export function createRealm(): Realm {
  const { privateKey } = generateKeyPairSync('ed25519')
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  return { privateKey, publicKey }
}

export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-mesh-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }))
  return folder
}

export interface PeerOptions {
  /** An earlier life's; default: a new one. */
  folder?: string
  listen?: readonly string[]
  /** Default: a node. */
  roles?: readonly string[]
  tieTo?: MeshHostOptions['tieTo']
  /** As others are told to reach it; default: where it listens. */
  announced?: (address: string) => string
  lifetimeMs?: number
  now?: () => number
  clockSlackMs?: number
  log?: Logger
  limits?: MeshHostOptions['limits']
}

export interface Peer {
  readonly host: MeshHost
  readonly identity: PeerIdentity
  readonly folder: string
  /** As the coordinator would hand it to others. */
  membership(): Uint8Array
  /** A new one, shown to others and returned. */
  renew(options?: {
    lifetimeMs?: number
    issuedAtMs?: number
    roles?: readonly string[]
  }): Uint8Array
  stop(): Promise<void>
}

/** Quick to notice, quick to come back. */
export const briskLimits = {
  redialMsMax: 500,
  courtesyMs: 200,
  sweepMs: 50,
  pingIntervalMs: 1_000,
  pingTimeoutMs: 3_000,
} as const

export async function startPeer(
  t: ExecutionContext,
  realm: Realm,
  options: PeerOptions = {},
): Promise<Peer> {
  const folder = options.folder ?? (await temporaryFolder(t))
  const identity = await openPeerIdentity(path.join(folder, 'peer.pem'))
  const roster = openRoster(path.join(folder, 'roster'))
  const now = options.now ?? Date.now
  let roles = options.roles ?? ['node']
  const facts = (addresses: string[]): MemberFacts => ({
    peerId: identity.peerId,
    nodeId: identity.peerId.slice(-12),
    roles,
    addresses,
    bulkAddress: '',
  })
  const lifetimeMs = options.lifetimeMs ?? 60 * 60_000
  const issue = (addresses: string[], issuedAtMs: number, forMs: number) =>
    issueMembership(realm.privateKey, facts(addresses), { nowMs: issuedAtMs, lifetimeMs: forMs })
  let membership = issue([], Date.now() - 1, lifetimeMs)
  const host = await createMeshHost(
    {
      identity,
      roster,
      log: options.log ?? silentLogger,
      verifier: createMembershipVerifier({
        publicKeys: [realm.publicKey],
        now,
        ...(options.clockSlackMs === undefined ? {} : { clockSlackMs: options.clockSlackMs }),
      }),
    },
    {
      listen: options.listen ?? ['/ip4/127.0.0.1/tcp/0'],
      membership,
      now,
      limits: { ...briskLimits, ...options.limits },
      ...(options.tieTo === undefined ? {} : { tieTo: options.tieTo }),
    },
  )
  let stopped: Promise<void> | undefined
  const peer: Peer = {
    host,
    identity,
    folder,
    membership: () => membership,
    renew(renewal = {}) {
      roles = renewal.roles ?? roles
      const addresses = host.addresses().map(options.announced ?? ((address) => address))
      membership = issue(
        addresses,
        renewal.issuedAtMs ?? Date.now(),
        renewal.lifetimeMs ?? lifetimeMs,
      )
      host.renew(membership)
      return membership
    },
    stop() {
      stopped ??= (async () => {
        await host[Symbol.asyncDispose]()
        await roster[Symbol.asyncDispose]()
      })()
      return stopped
    },
  }
  t.teardown(() => peer.stop())
  peer.renew()
  return peer
}

/** Tells each of all the others, as the coordinator would. */
export function introduce(peers: readonly Peer[]): void {
  for (const peer of peers) peer.host.learn(peers.map((other) => other.membership()))
}

/** Resolves with the first event that fits, also one that has happened. */
export async function peerEvent(
  host: MeshHost,
  fits: (event: PeerEvent) => boolean,
): Promise<PeerEvent> {
  const { promise, resolve } = Promise.withResolvers<PeerEvent>()
  using _listening = host.onPeer((event) => {
    if (fits(event)) resolve(event)
  })
  return await within(promise, 'a peer event')
}

export async function connected(host: MeshHost, peer: Peer): Promise<void> {
  await peerEvent(host, ({ type, peerId }) => type === 'connected' && peerId === peer.host.peerId)
}

/** Polls what has no event. */
export async function eventually(
  condition: () => boolean,
  what: string,
  limitMs = patienceMs,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setInterval(() => {
    if (condition()) resolve()
  }, 10)
  try {
    await within(promise, what, limitMs)
  } finally {
    clearInterval(timer)
  }
}

export async function within<T>(
  promise: Promise<T>,
  what: string,
  limitMs = patienceMs,
): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`${what} never came`)), limitMs)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
