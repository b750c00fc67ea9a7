/** What the coordinator asks of this node, and nobody else: a gRPC server that requires its certificate. */
import { HearthError } from '../core/errors.ts'
import { type CallContext, streamHandler, unaryHandler } from '../core/grpc-handler.ts'
import { type GrpcServer, startGrpcServer, type TlsIdentity } from '../core/grpc-server.ts'
import { buildCertificateMs } from '../core/limits.ts'
import type { Logger } from '../core/log.ts'
import { parseName } from '../core/scope.ts'
import {
  type LeaseRequest,
  type NodeControlServer,
  NodeControlService,
} from '../proto/generated/hearth/v1/node.ts'
import type { Scheduler } from './scheduler/index.ts'
import {
  type CachesDeps,
  describeMounts,
  measureUsage,
  resetProject,
  verifyBlobs,
} from './service-caches.ts'
import { leaseEvents } from './service-lease.ts'

export interface NodeServiceDeps extends CachesDeps {
  scheduler: Scheduler
  /** Resolves when all reports of the build that there are by now have reached the coordinator. */
  reports: { settled(buildId: string, options: { signal: AbortSignal }): Promise<void> }
  /** Hears of each build that is asked for a slot, before it has one. Default: nobody does. */
  onLeaseAsked?: (request: LeaseRequest, options: { signal: AbortSignal }) => void
  log: Logger
}

export interface NodeServiceOptions {
  host: string
  /** 0: any free port. */
  port: number
  nodeId: string
  /** This node's certificate and key, and the authority that the coordinator's is checked against. */
  identity: TlsIdentity
}

/** Walking BuildKit's state, and reading every blob back. */
const usageMs = 5 * 60_000
const resetMs = 15 * 60_000
const verifyMs = 24 * 60 * 60_000

/** @throws HearthError `environment` when the address cannot be listened on. */
export async function createNodeService(
  deps: NodeServiceDeps,
  options: NodeServiceOptions,
): Promise<GrpcServer> {
  const { scheduler, log } = deps
  const control: NodeControlServer = {
    lease: streamHandler({ log, timeoutMs: buildCertificateMs }, (request, context) => {
      requireCoordinator(context)
      deps.onLeaseAsked?.(request, context)
      return leaseEvents({ scheduler }, request, context)
    }),
    releaseLease: unaryHandler({ log }, async ({ buildId }, context) => {
      requireCoordinator(context)
      scheduler.find(buildId)?.release()
      await deps.reports.settled(buildId, context)
      return {}
    }),
    heldBuilds: unaryHandler({ log }, ({ buildIds }, context) => {
      requireCoordinator(context)
      return { buildIds: buildIds.filter((id) => scheduler.find(id) !== undefined) }
    }),
    usage: unaryHandler({ log, timeoutMs: usageMs }, ({ project }, context) => {
      requireCoordinator(context)
      const { nodeId } = options
      return measureUsage(deps, { nodeId, project, signal: context.signal })
    }),
    verify: streamHandler({ log, timeoutMs: verifyMs }, ({ project }, context) => {
      requireCoordinator(context)
      return verifyBlobs(deps, project, context)
    }),
    reset: unaryHandler({ log, timeoutMs: resetMs }, async ({ project }, context) => {
      requireCoordinator(context)
      return { bytesFreed: await resetProject(deps, parseName('project', project)) }
    }),
    mounts: unaryHandler({ log }, ({ project }, context) => {
      requireCoordinator(context)
      return { mounts: describeMounts(deps.mounts, project) }
    }),
    resetMount: unaryHandler({ log, timeoutMs: usageMs }, async ({ project, id }, context) => {
      requireCoordinator(context)
      return { snapshots: await deps.mounts.reset(parseName('project', project), id) }
    }),
    drain: unaryHandler({ log, timeoutMs: buildCertificateMs }, async (_request, context) => {
      requireCoordinator(context)
      await scheduler.drain(context)
      return {}
    }),
  }
  return startGrpcServer({
    ...options,
    callerCertificates: 'required',
    services: [[NodeControlService, control]],
  })
}

/** Clients and other nodes have certificates of the same authority. @throws HearthError `forbidden` */
function requireCoordinator({ identity }: CallContext): void {
  if (identity?.type === 'coordinator') return
  throw new HearthError('forbidden', 'only the coordinator may do this')
}
