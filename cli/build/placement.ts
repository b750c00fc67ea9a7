/** Opens a build at the coordinator and waits for its place. */
import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { HearthError } from '../../core/errors.ts'
import { formatVersions } from '../../core/format-version.ts'
import {
  BuildsService,
  type Endpoint,
  type Planner,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import type { Plan } from '../../proto/generated/hearth/v1/plan.ts'
import type { CoordinatorClient } from '../coordinator-client.ts'
import type { PlannerNode } from '../plan/plan-at-nodes.ts'
import type { InstanceNode } from './instance.ts'
import { type StandbyEndpoint, standbyEndpoint } from './standby.ts'

// Longer than anybody waits for a slot on purpose.
const queueMs = 12 * 60 * 60_000

export interface BuildKey {
  readonly privateKeyPem: string
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Buffer
}

export interface OpenedBuild {
  readonly buildId: string
  /** As the coordinator understood it. */
  readonly project: string
  readonly standby: readonly StandbyEndpoint[]
  /** Where to plan before it is placed; empty when a plan would change nothing. */
  readonly planners: readonly PlannerNode[]
}

/** A P-256 key pair, made anew for every build; the private half never leaves this machine. */
export async function makeBuildKey(): Promise<BuildKey> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  return {
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKey: publicKey.export({ type: 'spki', format: 'der' }),
  }
}

/** @throws HearthError as the coordinator answers; `unavailable` or `deadline` when it does not. */
export async function openBuild(
  client: CoordinatorClient,
  request: { project: string; platforms: readonly string[]; command: string; key: BuildKey },
  options: { signal: AbortSignal },
): Promise<OpenedBuild> {
  const reply = await client.call(
    BuildsService.openBuild,
    {
      protocolVersion: formatVersions.protocol,
      project: request.project,
      platforms: [...request.platforms],
      command: request.command,
      clientPublicKey: request.key.publicKey,
    },
    options,
  )
  return {
    buildId: reply.buildId,
    project: reply.scope?.project ?? '',
    standby: (reply.standby?.endpoints ?? []).map(standbyEndpoint),
    planners: reply.planWanted ? reply.planners.flatMap(plannerNode) : [],
  }
}

function plannerNode({ platforms, endpoint }: Planner): PlannerNode[] {
  return endpoint === undefined ? [] : [{ platforms, node: instanceNode(endpoint, []) }]
}

/**
 * Waits for a slot on the node or nodes of the build.
 * @param build.plans empty when none was made.
 * @param options.onQueued called with the place in the queue, 1 being next, and with what is waited for if it
 *   is not just a slot.
 */
export async function placeBuild(
  client: CoordinatorClient,
  build: { buildId: string; plans: readonly Plan[] },
  options: { onQueued: (position: number, reason: string) => void; signal: AbortSignal },
): Promise<InstanceNode[]> {
  const events = client.stream(
    BuildsService.placeBuild,
    { buildId: build.buildId, plans: [...build.plans] },
    {
      signal: options.signal,
      timeoutMs: queueMs,
    },
  )
  const nodes: InstanceNode[] = []
  for await (const { event } of events) {
    if (event?.$case === 'queued') {
      options.onQueued(event.value.position, event.value.reason)
    }
    if (event?.$case !== 'placement') continue
    const { endpoint, platforms } = event.value
    if (endpoint !== undefined) nodes.push(instanceNode(endpoint, platforms))
  }
  if (nodes.length === 0)
    throw new HearthError('unavailable', 'the coordinator placed the build nowhere')
  // With one node buildx need not be told what goes where.
  const [only] = nodes
  return nodes.length === 1 && only !== undefined ? [{ ...only, platforms: [] }] : nodes
}

function instanceNode(endpoint: Endpoint, platforms: readonly string[]): InstanceNode {
  return {
    address: endpoint.address,
    serverName: endpoint.serverName,
    caPem: endpoint.caPem,
    certificatePem: endpoint.clientCertificatePem,
    platforms,
  }
}
