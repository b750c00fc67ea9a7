/** What nodes call. A join token or a node's certificate opens Join; only the certificate opens the rest. */
import { z } from 'zod'
import { HearthError } from '../../core/errors.ts'
import { formatVersions, refuseNewer } from '../../core/format-version.ts'
import { unaryHandler } from '../../core/grpc-handler.ts'
import type { Identity } from '../../core/identity.ts'
import type { Logger } from '../../core/log.ts'
import type {
  HeartbeatReply,
  JoinReply,
  JoinRequest,
  MembershipServer,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import { type Authority, hashPublicKey, requireNode, type Tokens } from '../access/index.ts'
import { noteNodeLife, type ReportDesk } from '../builds/index.ts'
import { nodeCertificateMs } from '../limits.ts'
import type { CoordinatorMesh } from '../mesh/index.ts'
import type { NodeDirectory } from '../nodes/index.ts'
import { normalPlatform } from '../routing/index.ts'
import { newId, type State } from '../state/index.ts'

export interface MembershipDeps {
  state: State
  tokens: Tokens
  authority: Authority
  directory: NodeDirectory
  mesh: CoordinatorMesh
  reports: ReportDesk
  log: Logger
}

const nodeIdCharacters = 12

const address = z
  .string()
  .max(300)
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s[\]]+):\d{1,5}$/)
/** A node that joins for the first time is not reachable yet: its servers need the certificate first. */
const maybeAddress = address.or(z.literal(''))
const joinShape = z.object({
  name: z.string().min(1).max(100),
  platform: z.string().transform(normalPlatform),
  buildAddress: maybeAddress,
  controlAddress: maybeAddress,
  version: z.string().max(100),
  /** What is wrong with these is found by who signs them. */
  peerId: z.string().max(100),
  meshAddresses: z.array(z.string().max(300)).max(16),
  bulkAddress: maybeAddress,
})

export function createMembershipService(
  deps: MembershipDeps,
  options: { heartbeatMs: number },
): MembershipServer {
  const { log, state, directory, reports } = deps

  return {
    join: unaryHandler({ log }, (request, { identity }) => join(deps, request, identity)),
    heartbeat: unaryHandler({ log }, (request, { identity }): HeartbeatReply => {
      const nodeId = requireNode(identity, request.nodeId)
      directory.heartbeat(nodeId, request.load ?? NodeLoad.create())
      noteNodeLife(deps, nodeId, request.life)
      const policies = state.projects
        .list()
        .filter(({ bytesMax, daysMax }) => bytesMax > 0 || daysMax > 0)
        .map(({ name, bytesMax, daysMax }) => [name, { bytesMax, daysMax }] as const)
      const peerId = directory.get(nodeId)?.peerId
      const memberships = peerId === undefined ? [] : deps.mesh.newsFor(peerId)
      return {
        intervalMs: options.heartbeatMs,
        policies: Object.fromEntries(policies),
        expelledPeers: deps.mesh.expelled(),
        memberships: memberships.map((signed) => Buffer.from(signed)),
      }
    }),
    reportBuild: unaryHandler({ log }, ({ report }, { identity }) => {
      if (report === undefined) throw new HearthError('invalid-input', 'the report is missing')
      reports.take(requireNode(identity, report.nodeId), report)
      return {}
    }),
  }
}

async function join(
  deps: MembershipDeps,
  request: JoinRequest,
  identity: Identity | undefined,
): Promise<JoinReply> {
  if (request.protocolVersion < 1) {
    throw new HearthError('invalid-input', 'the request names no protocol version')
  }
  refuseNewer('the protocol of this node', request.protocolVersion, formatVersions.protocol)
  const parsed = joinShape.safeParse(request)
  if (!parsed.success) {
    throw new HearthError('invalid-input', `the node cannot join: ${z.prettifyError(parsed.error)}`)
  }
  const publicKeyHash = hashPublicKey(request.publicKey)
  const nodeId = admit(deps, request, { identity, publicKeyHash })
  const { certificatePem, expiresAtMs } = await deps.authority.issue(
    { type: 'node', nodeId },
    request.publicKey,
    nodeCertificateMs,
  )
  const { meshAddresses, bulkAddress, peerId, ...facts } = parsed.data
  const enrolment =
    peerId === ''
      ? undefined
      : deps.mesh.enrol({
          nodeId,
          peerId,
          platform: facts.platform,
          meshAddresses,
          bulkAddress,
          otherAddresses: [facts.buildAddress, facts.controlAddress].filter(Boolean),
          withToken: request.joinToken !== '',
        })
  deps.directory.join({
    ...facts,
    id: nodeId,
    publicKeyHash,
    ...(enrolment === undefined ? {} : { peerId, membership: enrolment.membership }),
  })
  const { caPem } = deps.authority
  const expiresAt = new Date(expiresAtMs)
  return {
    nodeId,
    certificatePem,
    caPem,
    expiresAt,
    membership: Buffer.from(enrolment?.membership ?? []),
    membershipKey: Buffer.from(enrolment?.membershipKey ?? []),
    roster: (enrolment?.roster ?? []).map((signed) => Buffer.from(signed)),
  }
}

/** Which node this is. A certificate speaks for itself; with a token, an earlier id needs its earlier key. */
function admit(
  deps: MembershipDeps,
  request: JoinRequest,
  asker: { identity: Identity | undefined; publicKeyHash: string },
): string {
  if (request.joinToken === '') {
    const nodeId = requireNode(asker.identity, request.nodeId)
    deps.mesh.requireNotRemoved(nodeId)
    return nodeId
  }
  return deps.tokens.spendJoin(request.joinToken, asker.publicKeyHash, () => {
    const earlier = request.nodeId === '' ? undefined : deps.state.nodes.get(request.nodeId)
    return earlier?.publicKeyHash === asker.publicKeyHash ? earlier.id : newId(nodeIdCharacters)
  })
}
