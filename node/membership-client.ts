/** The calls a node makes. Each uses the newest certificate the node has. */
import { randomUUID, X509Certificate } from 'node:crypto'
import { credentials } from '@grpc/grpc-js'
import { HearthError } from '../core/errors.ts'
import { formatVersions } from '../core/format-version.ts'
import { callUnary, channelOptions } from '../core/grpc-call.ts'
import type { TlsIdentity } from '../core/grpc-server.ts'
import { coordinatorServerName } from '../core/identity.ts'
import {
  createMembershipVerifier,
  type Membership,
  renewAfterMs,
  type SignedMembership,
} from '../mesh/index.ts'
import type { BuildReport } from '../proto/generated/hearth/v1/build.ts'
import {
  type HeartbeatReply,
  type JoinReply,
  MembershipClient,
} from '../proto/generated/hearth/v1/coordinator.ts'
import type { CachePolicy, NodeLoad } from '../proto/generated/hearth/v1/node.ts'
import type { KeptEnrolment, NodeIdentity } from './membership-identity.ts'

export interface MembershipCalls extends Disposable {
  /** "" before the first certificate. */
  readonly nodeId: string
  /** One that is valid for a while yet, of this coordinator. */
  hasCertificate(): boolean
  /** The membership of this node's peer, if it was given one that holds for a while yet. */
  enrolment(): MeshEnrolment | undefined
  /** After a third of the life of certificate or membership, so that a coordinator may be away for long. */
  isRenewalDue(): boolean
  /**
   * Asks for a certificate, and for a membership where the node has a peer, and keeps them.
   * @param joinToken empty to renew.
   * @returns signed memberships of the other members.
   */
  join(
    joinToken: string,
    addresses: NodeAddresses,
    signal: AbortSignal,
  ): Promise<{ roster: readonly SignedMembership[] }>
  heartbeat(
    load: NodeLoad,
    signal: AbortSignal,
  ): Promise<{
    intervalMs: number
    policies: ReadonlyMap<string, CachePolicy>
    expelledPeers: readonly string[]
    /** Signed anew since the last answer; this node's own among them is kept, and is `enrolment` from now on. */
    memberships: readonly SignedMembership[]
  }>
  report(report: BuildReport, signal: AbortSignal): Promise<void>
}

/** How others reach the node; "host:port", and multiaddresses of its peer. Empty until its servers listen. */
export interface NodeAddresses {
  readonly build: string
  readonly control: string
  readonly mesh?: readonly string[]
  readonly bulk?: string
}

export interface MeshEnrolment {
  readonly membership: SignedMembership
  /** DER SubjectPublicKeyInfo of the key that signed it. */
  readonly membershipKey: Uint8Array
}

/** A certificate that has less than this left is not worth starting with. */
const leftMs = 60_000
const intervalMsMin = 20
const intervalMsMax = 60_000

export function connectMembership(
  identity: NodeIdentity,
  options: {
    coordinatorAddress: string
    caPem: string
    name: string
    platform: string
    version: string
    peerId: string | undefined
    now: () => number
  },
): MembershipCalls {
  const { now } = options
  const authority = fingerprint(options.caPem)
  const life = randomUUID()
  /** As the coordinator said them last, in base64. */
  let toldMemberships: ReadonlySet<string> = new Set()
  let client = connect(options, usableCertificate() ? identity.tls() : undefined)

  function usableCertificate() {
    const certificate = identity.certificate()
    if (certificate === undefined) return undefined
    // One of another authority is of a coordinator that this node has left.
    return fingerprint(certificate.caPem) === authority ? certificate : undefined
  }

  function usableEnrolment():
    | (MeshEnrolment & { renewAtMs: number; issuedAtMs: number })
    | undefined {
    const kept = identity.enrolment()
    if (kept === undefined || usableCertificate() === undefined) return undefined
    const membership = Buffer.from(kept.membership, 'base64')
    const membershipKey = Buffer.from(kept.membershipKey, 'base64')
    const verified = verify({ membership, membershipKey }, options.peerId)
    if (verified === undefined) return undefined
    const renewAtMs = kept.receivedAtMs + renewAfterMs(verified)
    return { membership, membershipKey, renewAtMs, issuedAtMs: verified.issuedAtMs }
  }

  /** Our own, when it has other roles than before. */
  async function keepNewer(signed: SignedMembership): Promise<void> {
    const [certificate, kept] = [usableCertificate(), identity.enrolment()]
    if (certificate === undefined || kept === undefined) return
    const membershipKey = Buffer.from(kept.membershipKey, 'base64')
    const next = verify({ membership: signed, membershipKey }, options.peerId)
    const before = usableEnrolment()?.issuedAtMs
    if (next === undefined || before === undefined || next.issuedAtMs <= before) return
    const membership = Buffer.from(signed).toString('base64')
    await identity.keep(certificate, { ...kept, membership, receivedAtMs: now() })
  }

  /** @returns what is known neither from the last answer nor from the joining. */
  async function takeMemberships(signed: readonly Buffer[]): Promise<readonly SignedMembership[]> {
    const known = identity.enrolment()?.membership
    const news = signed.filter((each) => {
      const text = each.toString('base64')
      return text !== known && !toldMemberships.has(text)
    })
    for (const each of news) await keepNewer(each)
    toldMemberships = new Set(signed.map((each) => each.toString('base64')))
    return news
  }

  return {
    get nodeId() {
      return usableCertificate()?.nodeId ?? ''
    },
    hasCertificate: () => (usableCertificate()?.expiresAtMs ?? 0) > now() + leftMs,
    enrolment: usableEnrolment,
    isRenewalDue() {
      const { issuedAtMs = 0, expiresAtMs = 0 } = usableCertificate() ?? {}
      const certificateAtMs = issuedAtMs + (expiresAtMs - issuedAtMs) / 3
      const membershipAtMs =
        options.peerId === undefined
          ? Number.POSITIVE_INFINITY
          : (usableEnrolment()?.renewAtMs ?? 0)
      return now() > Math.min(certificateAtMs, membershipAtMs)
    },
    async join(joinToken, addresses, signal) {
      const { name, platform, version } = options
      const request = {
        protocolVersion: formatVersions.protocol,
        joinToken,
        name,
        publicKey: identity.publicKey,
        platform,
        buildAddress: addresses.build,
        controlAddress: addresses.control,
        version,
        nodeId: usableCertificate()?.nodeId ?? '',
        peerId: options.peerId ?? '',
        meshAddresses: [...(addresses.mesh ?? [])],
        bulkAddress: addresses.bulk ?? '',
      }
      const reply = await callUnary<JoinReply>(
        'join the coordinator',
        (metadata, call, done) => client.join(request, metadata, call, done),
        { signal },
      )
      const { nodeId, certificatePem, caPem } = reply
      const issuedAtMs = now()
      const expiresAtMs = reply.expiresAt?.getTime() ?? issuedAtMs
      const certificate = { nodeId, certificatePem, caPem, issuedAtMs, expiresAtMs }
      await identity.keep(certificate, enrolmentOf(reply, options.peerId, issuedAtMs))
      const before = client
      client = connect(options, identity.tls())
      before.close()
      return { roster: reply.roster }
    },
    async heartbeat(load, signal) {
      const nodeId = usableCertificate()?.nodeId ?? ''
      const reply = await callUnary<HeartbeatReply>(
        'tell the coordinator that the node is there',
        (metadata, call, done) => client.heartbeat({ nodeId, load, life }, metadata, call, done),
        { signal },
      )
      const intervalMs = Math.min(intervalMsMax, Math.max(intervalMsMin, reply.intervalMs))
      const { expelledPeers } = reply
      const memberships = await takeMemberships(reply.memberships)
      const policies = new Map(Object.entries(reply.policies))
      return { intervalMs, policies, expelledPeers, memberships }
    },
    async report(report, signal) {
      await callUnary(
        'report a build',
        (metadata, call, done) => client.reportBuild({ report }, metadata, call, done),
        { signal },
      )
    },
    [Symbol.dispose]: () => client.close(),
  }
}

/** @throws HearthError `version` when a peer was enrolled and there is no membership, `corrupt` when it is none. */
function enrolmentOf(
  reply: JoinReply,
  peerId: string | undefined,
  receivedAtMs: number,
): KeptEnrolment | undefined {
  if (peerId === undefined) return undefined
  const { membership, membershipKey } = reply
  if (membership.length === 0) {
    throw new HearthError('version', 'the coordinator is older than this node and has no mesh', {
      hint: 'upgrade the coordinator first',
    })
  }
  if (verify({ membership, membershipKey }, peerId) === undefined) {
    throw new HearthError('corrupt', 'the coordinator gave a membership that does not hold here', {
      hint: 'the clocks of coordinator and node may be hours apart',
    })
  }
  return {
    peerId,
    membership: membership.toString('base64'),
    membershipKey: membershipKey.toString('base64'),
    receivedAtMs,
  }
}

function verify(
  { membership, membershipKey }: MeshEnrolment,
  peerId: string | undefined,
): Membership | undefined {
  const verifier = createMembershipVerifier({ publicKeys: [membershipKey] })
  const verdict = verifier.verify(membership, peerId)
  return verdict.type === 'valid' ? verdict.membership : undefined
}

/** @throws HearthError `invalid-input` */
function fingerprint(pem: string): string {
  try {
    return new X509Certificate(pem).fingerprint256
  } catch (error) {
    throw new HearthError('invalid-input', "the coordinator's authority is no certificate in PEM", {
      cause: error,
      hint: 'name the file ca.pem of the coordinator',
    })
  }
}

function connect(
  options: { coordinatorAddress: string; caPem: string },
  identity: TlsIdentity | undefined,
): MembershipClient {
  const ca = Buffer.from(options.caPem)
  const secure =
    identity === undefined
      ? credentials.createSsl(ca)
      : credentials.createSsl(
          ca,
          Buffer.from(identity.privateKeyPem),
          Buffer.from(identity.certificatePem),
        )
  return new MembershipClient(options.coordinatorAddress, secure, {
    ...channelOptions,
    'grpc.ssl_target_name_override': coordinatorServerName,
    'grpc.default_authority': coordinatorServerName,
  })
}
