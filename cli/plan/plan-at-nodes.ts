/** The plans of a build that has been opened, made on nodes that build its platforms. */
import path from 'node:path'
import type { Plan } from '../../plan/index.ts'
import type { BuildCommandLine } from '../build/command-line.ts'
import { type InstanceNode, instanceName, writeInstance } from '../build/instance.ts'
import { buildxEnvironment } from '../build/run-buildx.ts'
import type { Terminal } from '../terminal.ts'
import { makePlans } from './make-plans.ts'

export interface PlannerNode {
  /** As asked for; empty: the node's own. */
  readonly platforms: readonly string[]
  readonly node: Omit<InstanceNode, 'platforms'>
}

export interface NodePlanRequest {
  readonly line: BuildCommandLine
  readonly buildx: string
  readonly planners: readonly PlannerNode[]
  readonly privateKeyPem: string
  /** Private to the build, for certificates. */
  readonly folder: string
}

/**
 * Whatever cannot be planned, or not in time, has no plan: the build goes on without.
 * @throws what the signal was aborted for.
 */
export async function planAtNodes(
  terminal: Terminal,
  request: NodePlanRequest,
  options: { limitMs: number; signal: AbortSignal },
): Promise<Plan[]> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.limitMs)])
  const plans = await Promise.all(
    request.planners.map(async (planner, index) => {
      try {
        const folder = path.join(request.folder, `planner${index}`)
        return await planAt(terminal, request, planner, { folder, signal })
      } catch {
        return []
      }
    }),
  )
  options.signal.throwIfAborted()
  return plans.flat().filter(({ steps }) => steps.length > 0)
}

async function planAt(
  terminal: Terminal,
  { line, buildx, privateKeyPem }: NodePlanRequest,
  { platforms, node }: PlannerNode,
  options: { folder: string; signal: AbortSignal },
): Promise<readonly Plan[]> {
  const nodes = [{ ...node, platforms: [] }]
  const config = await writeInstance(options.folder, nodes, privateKeyPem, terminal.env)
  const env = buildxEnvironment(terminal.env, config)
  const { plans } = await makePlans(
    {
      line,
      platforms,
      buildx: { program: buildx, env, folder: terminal.folder, builder: instanceName },
    },
    terminal.env,
    options,
  )
  return plans
}
