/**
 * This node's place at its coordinator: it joins once with a token, then renews its certificate early, says
 * regularly that it is there and how busy, and delivers reports. Whatever the network does, it comes back by
 * itself, with jitter, for ever.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { describeError, type ErrorCode, HearthError, toHearthError } from '../core/errors.ts'
import type { TlsIdentity } from '../core/grpc-server.ts'
import type { Logger } from '../core/log.ts'
import type { SignedMembership } from '../mesh/index.ts'
import type { BuildReport } from '../proto/generated/hearth/v1/build.ts'
import type { CachePolicy, NodeLoad } from '../proto/generated/hearth/v1/node.ts'
import { backoffMs } from './membership-backoff.ts'
import { connectMembership, type MeshEnrolment, type NodeAddresses } from './membership-client.ts'
import { openNodeIdentity } from './membership-identity.ts'
import { createReportQueue } from './membership-reports.ts'

export interface JoinOptions {
  /** Where key, id and certificate are kept; made if needed. */
  folder: string
  /** "host:port". */
  coordinatorAddress: string
  /** The coordinator's authority, from a source that is trusted. */
  caPem: string
  /** Needed when the folder holds no certificate that is still valid here. */
  joinToken: string | undefined
  /** How people call the node. */
  name: string
  /** "os/arch" that it builds natively. */
  platform: string
  version: string
  /** libp2p peer id; undefined for a node that stays out of the mesh. */
  peerId?: string
  /** Default: the clock. */
  now?: () => number
  /** Gives the joining up. */
  signal: AbortSignal
}

/** What a node says once it can be reached. */
export interface Presence {
  addresses: NodeAddresses
  load: () => NodeLoad | Promise<NodeLoad>
  /** Called with every heartbeat's answer: the projects that have a policy of their own. */
  onPolicies: (policies: ReadonlyMap<string, CachePolicy>) => void
  /** Called when the certificate has been renewed; the servers of this node then show the new one. */
  onIdentity: (identity: TlsIdentity) => void
  /**
   * Called after each joining of a node that is in the mesh, with its membership anew and whoever else is in, and
   * when the coordinator has signed memberships anew: its own with other roles, and those of the mesh's hubs.
   */
  onEnrolment?: (enrolment: MeshEnrolment, roster: readonly SignedMembership[]) => void
  /** Called with every heartbeat's answer: exactly these peers are out. */
  onExpelled?: (peerIds: readonly string[]) => void
}

export interface Membership extends AsyncDisposable {
  readonly nodeId: string
  /** The present certificate and key. */
  identity(): TlsIdentity
  /** Undefined for a node that stays out of the mesh. */
  enrolment(): MeshEnrolment | undefined
  /**
   * From now on, until disposal, the coordinator is told that the node is there. Called once, when its servers
   * listen. Reports go on being delivered.
   */
  announce(presence: Presence): AsyncDisposable
  /** Resolves when the coordinator has heard of it and may send builds. */
  heard(options: { signal: AbortSignal }): Promise<void>
  /** Delivers it as soon as it can be; a report of the same solve replaces one that still waits. */
  report(report: BuildReport): void
  /** Resolves when the reports of this build that wait by now have been delivered. */
  settled(buildId: string, options: { signal: AbortSignal }): Promise<void>
}

/**
 * Resolves when the node has a certificate, and a membership where it has a peer: at once when it kept them, else
 * when the coordinator let it in, for which it waits as long as the coordinator is away.
 * @throws HearthError `unauthenticated` when the join token is missing or refused; whatever else the
 *   coordinator refuses; `corrupt` or `version` when the folder holds no identity of a node.
 */
export async function joinCoordinator(
  deps: { log: Logger },
  options: JoinOptions,
): Promise<Membership> {
  const { log } = deps
  await using stack = new AsyncDisposableStack()
  const identity = await openNodeIdentity(options.folder)
  const { peerId } = options
  const client = stack.use(connectMembership(identity, { now: Date.now, ...options, peerId }))
  const isEnrolled = peerId === undefined || client.enrolment() !== undefined
  if (!client.hasCertificate() || !isEnrolled) await joinFirst(client, { ...options, log })
  const { nodeId } = client
  const nodeLog = log.child({ node: nodeId })
  const reports = stack.use(createReportQueue({ send: client.report, log: nodeLog }))
  const stopped = new AbortController()
  const heard = Promise.withResolvers<void>()
  let living: Promise<void> | undefined
  stack.defer(async () => {
    stopped.abort()
    await living
  })

  async function live(presence: Presence): Promise<void> {
    let isJoined = false
    let failures = 0
    /** What was logged last of this trouble. */
    let told: ErrorCode | undefined
    while (!stopped.signal.aborted) {
      try {
        if (!isJoined || client.isRenewalDue()) {
          const { roster } = await client.join('', presence.addresses, stopped.signal)
          presence.onIdentity(identity.tls())
          const enrolment = client.enrolment()
          if (enrolment !== undefined) presence.onEnrolment?.(enrolment, roster)
          isJoined = true
        }
        const reply = await client.heartbeat(await presence.load(), stopped.signal)
        presence.onPolicies(reply.policies)
        presence.onExpelled?.(reply.expelledPeers)
        const present = client.enrolment()
        if (present !== undefined && reply.memberships.length > 0) {
          presence.onEnrolment?.(present, reply.memberships)
        }
        if (failures > 0) nodeLog.info('the coordinator is back')
        failures = 0
        told = undefined
        heard.resolve()
        reports.wake()
        await pause(reply.intervalMs)
      } catch (error) {
        if (stopped.signal.aborted) return
        failures += 1
        const { code } = toHearthError(error)
        // Also a coordinator whose data was put back to an earlier day.
        if (code === 'not-found') isJoined = false
        if (code !== told) {
          nodeLog.warn({ reason: describeError(error) }, 'the coordinator does not take this node')
        }
        told = code
        await pause(backoffMs(failures))
      }
    }
  }

  const pause = (timeMs: number) =>
    delay(timeMs, undefined, { signal: stopped.signal }).catch(() => {})

  const owned = stack.move()
  return {
    nodeId,
    identity: identity.tls,
    enrolment: () => client.enrolment(),
    announce(presence) {
      if (living !== undefined) throw new Error('the node has been announced already')
      living = live(presence)
      return {
        async [Symbol.asyncDispose]() {
          stopped.abort()
          await living
        },
      }
    },
    async heard({ signal }) {
      const aborted = Promise.withResolvers<never>()
      const abort = () => aborted.reject(signal.reason)
      if (signal.aborted) abort()
      signal.addEventListener('abort', abort, { once: true })
      await Promise.race([heard.promise, aborted.promise])
      signal.removeEventListener('abort', abort)
    },
    report: (report) => reports.add({ ...report, nodeId }),
    settled: reports.settled,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Waits for a coordinator that is away; its refusal is final. */
async function joinFirst(
  client: ReturnType<typeof connectMembership>,
  options: JoinOptions & { log: Logger },
): Promise<void> {
  const { log, signal } = options
  const joinToken = client.hasCertificate() ? '' : (options.joinToken ?? '')
  if (joinToken === '' && !client.hasCertificate()) {
    throw new HearthError(
      'unauthenticated',
      'this node has no valid certificate and no join token',
      {
        hint: 'take a join token from the coordinator and name it with --token',
      },
    )
  }
  for (let failures = 1; ; failures += 1) {
    try {
      // Not reachable yet: its servers need the certificate first.
      await client.join(joinToken, { build: '', control: '' }, signal)
      return
    } catch (error) {
      const known = toHearthError(error)
      if (signal.aborted || (known.code !== 'unavailable' && known.code !== 'deadline')) throw known
      if (failures === 1) {
        log.warn({ reason: describeError(error) }, 'waiting for the coordinator')
      }
      await delay(backoffMs(failures), undefined, { signal })
    }
  }
}
