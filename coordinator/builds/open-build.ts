/** Opens a build: checks who asks and for what, and hands out the certificates. */
import { HearthError } from '../../core/errors.ts'
import { formatVersions, refuseNewer } from '../../core/format-version.ts'
import { buildCertificateMs, standbyCertificateMs } from '../../core/limits.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import type {
  OpenBuildReply,
  OpenBuildRequest,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import { type Authority, type Caller, scopeOf } from '../access/index.ts'
import { commandCharactersMax, platformsMax } from '../limits.ts'
import { type BuildRecord, newId, type State } from '../state/index.ts'
import { buildsLookedAt, type Choice, type ChooseDeps, chooseNodes } from './choose-nodes.ts'
import { makeEndpoint } from './endpoint.ts'

export interface OpenBuildDeps extends ChooseDeps {
  authority: Authority
}

const buildIdCharacters = 12

export async function openBuild(
  deps: OpenBuildDeps,
  caller: Caller,
  request: OpenBuildRequest,
  options: { nowMs: number; waitMs: number; signal: AbortSignal },
): Promise<OpenBuildReply> {
  const { state, authority, directory } = deps
  checkProtocol(request.protocolVersion)
  const scope = scopeOf(caller, request.project)
  const { platforms } = request
  if (platforms.length > platformsMax) {
    throw new HearthError('invalid-input', `a build has ${platformsMax} platforms at most`)
  }
  const history = state.builds.list({ project: scope.project, limit: buildsLookedAt })
  const choices = await chooseNodes(deps, { scope, platforms, plans: [] }, options)

  const id = newId(buildIdCharacters)
  const key = request.clientPublicKey
  const identity = { type: 'client', scope } as const
  const [certificate, standby] = await Promise.all([
    authority.issue({ ...identity, buildId: id }, key, buildCertificateMs),
    authority.issue({ ...identity, buildId: undefined }, key, standbyCertificateMs),
  ])
  addBuild(state, {
    id,
    scope,
    platforms,
    command: request.command.slice(0, commandCharactersMax),
    clientPublicKey: key,
    openedAtMs: options.nowMs,
    certificateUntilMs: certificate.expiresAtMs,
  })

  const nodeIds = choices.flatMap(({ nodeId, runnersUp }) => [
    nodeId,
    ...runnersUp.map((other) => other.nodeId),
  ])
  const nodes = [...new Set(nodeIds)].map(directory.get).filter((node) => node !== undefined)
  const { caPem } = authority
  const planners = choices.flatMap((choice) => {
    const node = directory.get(choice.nodeId)
    if (node === undefined) return []
    return [{ platforms: [...choice.platforms], endpoint: makeEndpoint(node, caPem, certificate) }]
  })
  return {
    buildId: id,
    scope,
    planner: planners[0]?.endpoint,
    planners,
    planWanted: deps.outlook.heat !== undefined && choices.some((one) => isWorthPlan(one, history)),
    standby: { endpoints: nodes.map((node) => makeEndpoint(node, caPem, standby)) },
  }
}

/**
 * Where there is a choice, a plan decides it. Where there is none, it still tells a node that has not built the
 * project what to fetch.
 */
function isWorthPlan(choice: Choice, history: readonly BuildRecord[]): boolean {
  if (choice.runnersUp.length > 0) return true
  return history.length > 0 && !history.some(({ nodeIds }) => nodeIds.includes(choice.nodeId))
}

function checkProtocol(version: number): void {
  if (version < 1) {
    throw new HearthError('invalid-input', 'the request names no protocol version')
  }
  refuseNewer('the protocol of this client', version, formatVersions.protocol)
}

/** The project comes into being with its first build. */
function addBuild(
  state: State,
  build: {
    id: string
    scope: Scope
    platforms: string[]
    command: string
    clientPublicKey: Uint8Array
    openedAtMs: number
    certificateUntilMs: number
  },
): void {
  const { scope, ...rest } = build
  state.write(() => {
    if (state.builds.get(build.id) !== undefined) {
      throw new HearthError('internal', `the id ${build.id} in ${scopeId(scope)} was drawn twice`)
    }
    if (state.projects.get(scope.project) === undefined) {
      const createdAtMs = build.openedAtMs
      state.projects.put(scope.project, {
        name: scope.project,
        createdAtMs,
        bytesMax: 0,
        daysMax: 0,
      })
    }
    state.builds.add({
      ...rest,
      ...scope,
      nodeIds: [],
      outcome: 0,
      durationMs: 0,
      stepsReused: 0,
      stepsTotal: 0,
      savedMs: 0,
    })
  })
}
