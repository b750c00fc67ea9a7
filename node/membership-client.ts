/** The calls a node makes. Each uses the newest certificate the node has. */
import { randomUUID, X509Certificate } from 'node:crypto'
import { credentials } from '@grpc/grpc-js'
import { HearthError } from '../core/errors.ts'
import { formatVersions } from '../core/format-version.ts'
import { callUnary, channelOptions } from '../core/grpc-call.ts'
import type { TlsIdentity } from '../core/grpc-server.ts'
import { coordinatorServerName } from '../core/identity.ts'
import type { BuildReport } from '../proto/generated/hearth/v1/build.ts'
import {
  type HeartbeatReply,
  type JoinReply,
  MembershipClient,
} from '../proto/generated/hearth/v1/coordinator.ts'
import type { CachePolicy, NodeLoad } from '../proto/generated/hearth/v1/node.ts'
import type { NodeIdentity } from './membership-identity.ts'

export interface MembershipCalls extends Disposable {
  /** "" before the first certificate. */
  readonly nodeId: string
  /** One that is valid for a while yet, of this coordinator. */
  hasCertificate(): boolean
  /** After a third of its life, so that a coordinator may be away for long. */
  isRenewalDue(): boolean
  /** Asks for a certificate and keeps it. @param joinToken empty to renew. */
  join(
    joinToken: string,
    addresses: { build: string; control: string },
    signal: AbortSignal,
  ): Promise<void>
  heartbeat(
    load: NodeLoad,
    signal: AbortSignal,
  ): Promise<{ intervalMs: number; policies: ReadonlyMap<string, CachePolicy> }>
  report(report: BuildReport, signal: AbortSignal): Promise<void>
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
  },
): MembershipCalls {
  const authority = fingerprint(options.caPem)
  const life = randomUUID()
  let client = connect(options, usableCertificate() ? identity.tls() : undefined)

  function usableCertificate() {
    const certificate = identity.certificate()
    if (certificate === undefined) return undefined
    // One of another authority is of a coordinator that this node has left.
    return fingerprint(certificate.caPem) === authority ? certificate : undefined
  }

  return {
    get nodeId() {
      return usableCertificate()?.nodeId ?? ''
    },
    hasCertificate: () => (usableCertificate()?.expiresAtMs ?? 0) > Date.now() + leftMs,
    isRenewalDue() {
      const { issuedAtMs = 0, expiresAtMs = 0 } = usableCertificate() ?? {}
      return Date.now() > issuedAtMs + (expiresAtMs - issuedAtMs) / 3
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
        peerId: '',
        meshAddresses: [],
        bulkAddress: '',
      }
      const reply = await callUnary<JoinReply>(
        'join the coordinator',
        (metadata, call, done) => client.join(request, metadata, call, done),
        { signal },
      )
      const { nodeId, certificatePem, caPem } = reply
      const issuedAtMs = Date.now()
      const expiresAtMs = reply.expiresAt?.getTime() ?? issuedAtMs
      await identity.keep({ nodeId, certificatePem, caPem, issuedAtMs, expiresAtMs })
      const before = client
      client = connect(options, identity.tls())
      before.close()
    },
    async heartbeat(load, signal) {
      const nodeId = usableCertificate()?.nodeId ?? ''
      const reply = await callUnary<HeartbeatReply>(
        'tell the coordinator that the node is there',
        (metadata, call, done) => client.heartbeat({ nodeId, load, life }, metadata, call, done),
        { signal },
      )
      const intervalMs = Math.min(intervalMsMax, Math.max(intervalMsMin, reply.intervalMs))
      return { intervalMs, policies: new Map(Object.entries(reply.policies)) }
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
