/** What is known, beyond the nodes' own calls, of where builds would end first. In memory only. */
import type { NodeDirectory } from '../nodes/index.ts'
import { createRates, type Rates, type StepHeat } from '../routing/index.ts'
import { createSilentNodes, type SilentNodes } from './silent-nodes.ts'
import { createUnderWay, type UnderWay } from './under-way.ts'

export interface Outlook {
  /** Undefined without a mesh: then plans foresee nothing. */
  readonly heat: StepHeat | undefined
  readonly rates: Rates
  readonly underWay: UnderWay
  readonly silent: SilentNodes
}

/**
 * @param deps.isGone whether a node that was in the mesh has left it; it counts as silent then. Default: none has.
 */
export function createOutlook(
  deps: {
    directory: NodeDirectory
    heat: StepHeat | undefined
    isGone?: (nodeId: string) => boolean
  },
  options: { heartbeatMs: number; now: () => number },
): Outlook {
  const { directory, heat } = deps
  return {
    heat,
    rates: createRates({ isNode: (source) => directory.get(source) !== undefined }),
    underWay: createUnderWay(options),
    silent: createSilentNodes(deps, options),
  }
}
