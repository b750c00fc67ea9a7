import { streamHandler, unaryHandler } from '../../core/grpc-handler.ts'
import { buildCertificateMs, callTimeoutMs } from '../../core/limits.ts'
import type { Logger } from '../../core/log.ts'
import type { BuildsServer } from '../../proto/generated/hearth/v1/coordinator.ts'
import { type Authority, requireCaller, type Tokens, visibleProject } from '../access/index.ts'
import {
  findBuild,
  finishBuild,
  type Outlook,
  openBuild,
  placeBuild,
  priceBuild,
  toBuild,
} from '../builds/index.ts'
import { buildsListedMax, reportsWaitMs } from '../limits.ts'
import type { NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { State } from '../state/index.ts'

export interface BuildsDeps {
  state: State
  tokens: Tokens
  authority: Authority
  directory: NodeDirectory
  control: NodeControlPool
  outlook: Outlook
  log: Logger
}

const buildsListedUsually = 20
/** What an answer needs on its way, so that it comes before the caller's own deadline. */
const answerMs = 200
/** How long nodes may take to come back after a restart of the coordinator. */
const nodesBackMs = 3_000

export function createBuildsService(
  deps: BuildsDeps,
  options: { now: () => number },
): BuildsServer {
  const { log, state, tokens } = deps
  const leftMs = (context: { deadlineAtMs: number }, most: number) =>
    Math.max(0, Math.min(most, context.deadlineAtMs - Date.now() - answerMs))

  return {
    openBuild: unaryHandler({ log }, (request, context) =>
      openBuild(deps, requireCaller(tokens, context.metadata), request, {
        nowMs: options.now(),
        waitMs: leftMs(context, nodesBackMs),
        signal: context.signal,
      }),
    ),
    placeBuild: streamHandler({ log, timeoutMs: buildCertificateMs }, (request, context) =>
      placeBuild(deps, requireCaller(tokens, context.metadata), request, {
        nowMs: options.now(),
        waitMs: leftMs(context, nodesBackMs),
        signal: context.signal,
      }),
    ),
    finishBuild: unaryHandler(
      { log, timeoutMs: callTimeoutMs + reportsWaitMs },
      async (request, context) => {
        const caller = requireCaller(tokens, context.metadata)
        const build = await finishBuild(deps, caller, request, {
          nowMs: options.now(),
          waitMs: leftMs(context, reportsWaitMs),
        })
        return { build }
      },
    ),
    priceBuild: unaryHandler({ log }, (request, context) =>
      priceBuild(deps, requireCaller(tokens, context.metadata), request, {
        waitMs: leftMs(context, nodesBackMs),
        signal: context.signal,
      }),
    ),
    listBuilds: unaryHandler({ log }, (request, { metadata }) => {
      const project = visibleProject(requireCaller(tokens, metadata), request.project)
      const limit = request.limit > 0 ? request.limit : buildsListedUsually
      const builds = state.builds.list({ project, limit: Math.min(limit, buildsListedMax) })
      return { builds: builds.map((build) => toBuild(build)) }
    }),
    getBuild: unaryHandler({ log }, (request, { metadata }) => {
      const build = findBuild(deps, requireCaller(tokens, metadata), request.buildId)
      return { build: toBuild(build, state.builds.solves(build.id)) }
    }),
  }
}
