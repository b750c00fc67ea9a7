import { HearthError } from '../../core/errors.ts'
import { streamHandler, unaryHandler } from '../../core/grpc-handler.ts'
import type { Logger } from '../../core/log.ts'
import { mainLine, makeScope, parseName } from '../../core/scope.ts'
import type {
  AdminServer,
  CreateProjectRequest,
  CreateTokenRequest,
  Node,
  Project,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import { requireCaller, requireOperator, type Tokens, visibleProject } from '../access/index.ts'
import { resetMs, usageMs, verifyMs } from '../limits.ts'
import type { CoordinatorMesh } from '../mesh/index.ts'
import type { KnownNode, NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { ProjectRecord, State } from '../state/index.ts'
import {
  askMounts,
  askUsage,
  requireOneLine,
  resetCaches,
  resetMountEverywhere,
  verifyCaches,
} from './caches.ts'

export interface AdminDeps {
  state: State
  tokens: Tokens
  directory: NodeDirectory
  control: NodeControlPool
  mesh: CoordinatorMesh
  log: Logger
}

export function createAdminService(deps: AdminDeps, options: { now: () => number }): AdminServer {
  const { log, state, tokens } = deps

  return {
    listNodes: unaryHandler({ log }, (_request, { metadata }) => {
      const only = visibleProject(requireCaller(tokens, metadata), '')
      return { nodes: deps.directory.list().map((node) => toNode(deps, node, only)) }
    }),
    removeNode: unaryHandler({ log }, ({ nodeId }, { metadata }) => {
      requireOperator(requireCaller(tokens, metadata))
      deps.mesh.remove(nodeId)
      return {}
    }),
    listProjects: unaryHandler({ log }, (_request, { metadata }) => {
      const only = visibleProject(requireCaller(tokens, metadata), '')
      const projects = state.projects
        .list()
        .filter(({ name }) => only === undefined || name === only)
      return { projects: projects.map(toProject) }
    }),
    createProject: unaryHandler({ log }, (request, { metadata }) => {
      requireOperator(requireCaller(tokens, metadata))
      return { project: toProject(createProject(state, request, options.now())) }
    }),
    createToken: unaryHandler({ log }, (request, { metadata }) => {
      requireOperator(requireCaller(tokens, metadata))
      return createToken(deps, request, options.now())
    }),
    revokeToken: unaryHandler({ log }, (request, { metadata }) => {
      requireOperator(requireCaller(tokens, metadata))
      tokens.revoke(request.id)
      return {}
    }),
    cacheUsage: unaryHandler({ log, timeoutMs: usageMs }, async (request, context) => {
      const caller = requireCaller(tokens, context.metadata)
      const project = visibleProject(caller, request.project) ?? ''
      return { nodes: await askUsage(deps, project, context) }
    }),
    verifyCache: streamHandler({ log, timeoutMs: verifyMs }, (request, context) => {
      const caller = requireCaller(tokens, context.metadata)
      return verifyCaches(deps, visibleProject(caller, request.project) ?? '', context)
    }),
    resetCache: unaryHandler({ log, timeoutMs: resetMs }, async (request, context) => {
      const caller = requireCaller(tokens, context.metadata)
      requireOneLine(caller)
      const project = visibleProject(caller, request.project)
      if (project === undefined) {
        throw new HearthError('invalid-input', 'the request names no project')
      }
      return { bytesFreed: await resetCaches(deps, parseName('project', project), context) }
    }),
    listMounts: unaryHandler({ log, timeoutMs: usageMs }, async (request, context) => {
      const caller = requireCaller(tokens, context.metadata)
      const project = visibleProject(caller, request.project) ?? ''
      return { nodes: await askMounts(deps, project, context) }
    }),
    resetMount: unaryHandler({ log, timeoutMs: resetMs }, async (request, context) => {
      const caller = requireCaller(tokens, context.metadata)
      requireOneLine(caller)
      const project = visibleProject(caller, request.project)
      if (project === undefined || request.id === '') {
        throw new HearthError('invalid-input', 'the request names no mount of a project')
      }
      const mount = { project: parseName('project', project), id: request.id }
      return { snapshots: await resetMountEverywhere(deps, mount, context) }
    }),
  }
}

/** A project that is there already, by a build or by hand, can be given another policy. */
function createProject(
  state: State,
  { name, policy }: CreateProjectRequest,
  nowMs: number,
): ProjectRecord {
  parseName('project', name)
  const { bytesMax = 0, daysMax = 0 } = policy ?? {}
  if (bytesMax < 0 || daysMax < 0) {
    throw new HearthError('invalid-input', 'a cache policy has no negative numbers')
  }
  return state.write(() => {
    const known = state.projects.get(name)
    if (known !== undefined && policy === undefined) {
      throw new HearthError('already-exists', `the project "${name}" is there already`)
    }
    const project = { name, createdAtMs: known?.createdAtMs ?? nowMs, bytesMax, daysMax }
    state.projects.put(name, project)
    return project
  })
}

function createToken(
  { state, tokens }: { state: State; tokens: Tokens },
  { project, line, description, join }: CreateTokenRequest,
  nowMs: number,
) {
  if (join) {
    if (project === '' && line === '') return tokens.createJoin()
    throw new HearthError(
      'invalid-input',
      'a join token is for a node, and nodes are of no project',
    )
  }
  if (project === '') {
    if (line === '') return tokens.createOperator(description)
    throw new HearthError('invalid-input', 'a trust line is of a project, and none is named', {
      hint: 'name the project too',
    })
  }
  const scope = makeScope(project, line === '' ? mainLine : line)
  return state.write(() => {
    if (state.projects.get(project) === undefined) {
      state.projects.put(project, { name: project, createdAtMs: nowMs, bytesMax: 0, daysMax: 0 })
    }
    return tokens.createProject(scope, description)
  })
}

function toProject({ name, createdAtMs, bytesMax, daysMax }: ProjectRecord): Project {
  return { name, createdAt: new Date(createdAtMs), policy: { bytesMax, daysMax } }
}

/** @param only the one project that the caller may know of; undefined: all. */
function toNode(
  { mesh }: Pick<AdminDeps, 'mesh'>,
  { node, online, lastSeenAtMs, load }: KnownNode,
  only: string | undefined,
): Node {
  const projects = load.projects.filter(({ project }) => only === undefined || project === only)
  return {
    id: node.id,
    name: node.name,
    platform: node.platform,
    address: node.buildAddress,
    online,
    load: { ...load, projects },
    lastSeenAt: new Date(lastSeenAtMs),
    version: node.version,
    peerId: node.peerId ?? '',
    inMesh: node.peerId !== undefined && mesh.isPresent(node.peerId),
  }
}
