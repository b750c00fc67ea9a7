/** Which BuildKit is asked for a build's operations: the node that the project used last, else the current builder. */
import { HearthError } from '../../core/errors.ts'
import { instanceName, writeInstance } from '../build/instance.ts'
import { findLocalBuilder } from '../build/local-builder.ts'
import { buildxEnvironment } from '../build/run-buildx.ts'
import { loadStandby } from '../build/standby.ts'
import type { Connection } from '../connection.ts'
import type { Terminal } from '../terminal.ts'

export interface PlannerSite {
  /** For people: a node's id, or the builder's name. */
  readonly name: string
  readonly builder: string
  readonly env: NodeJS.ProcessEnv
}

/**
 * @param request.folder private, for the certificate.
 * @throws HearthError `unavailable` when there is none.
 */
export async function findPlannerSite(
  terminal: Terminal,
  request: {
    readonly connection: Connection | undefined
    readonly project: string
    readonly buildx: string
    readonly folder: string
  },
  options: { signal: AbortSignal },
): Promise<PlannerSite> {
  const { connection, project } = request
  const kept =
    connection &&
    (await loadStandby(terminal.env, { coordinator: connection.address, project }, new Date()))
  // buildx asks one node; the others would say the same of the same platform.
  const [endpoint] = kept?.endpoints ?? []
  if (kept !== undefined && endpoint !== undefined) {
    const nodes = [{ ...endpoint, platforms: [] }]
    const config = await writeInstance(request.folder, nodes, kept.privateKeyPem, terminal.env)
    return {
      name: endpoint.nodeId,
      builder: instanceName,
      env: buildxEnvironment(terminal.env, config),
    }
  }
  const local = await findLocalBuilder(request.buildx, terminal.env, options)
  if (local !== undefined) {
    return {
      name: local.name,
      builder: local.name,
      env: buildxEnvironment(terminal.env, undefined),
    }
  }
  throw new HearthError('unavailable', `no BuildKit is known that could plan "${project}"`, {
    hint: 'build it once with "hearth build", or start a local Docker',
  })
}
