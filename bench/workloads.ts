/** Programs of our own with dependency trees of real ones, which measurements build. */
import { HearthError } from '../core/errors.ts'
import {
  createSmallWorkspace,
  createWorkspace,
  prepareGoService,
  type Workspace,
} from '../test/harness/index.ts'

export interface Workload {
  readonly name: string
  /** Fetches what it needs from the network, once for all. */
  prepare(say: (line: string) => void): Promise<void>
  /** @param registryHost where its base images are pushed to, as `host:port`. */
  create(registryHost: string): Promise<Workspace>
}

const workloads: readonly [Workload, ...Workload[]] = [
  { name: 'go-service', prepare: prepareGoService, create: createWorkspace },
  // For trying a measurement itself.
  { name: 'few-steps', prepare: async () => {}, create: createSmallWorkspace },
]

/**
 * @param name undefined: the Go service.
 * @throws HearthError `invalid-input` when there is none of that name.
 */
export function findWorkload(name: string | undefined): Workload {
  const [usual] = workloads
  const found = name === undefined ? usual : workloads.find((workload) => workload.name === name)
  if (found !== undefined) return found
  throw new HearthError('invalid-input', `no workload is called "${name}"`, {
    hint: `there are ${workloads.map((workload) => workload.name).join(', ')}`,
  })
}
