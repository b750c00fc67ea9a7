/** What the verbs that ask the coordinator have in common. */
import type { Layers } from '../core/config.ts'
import { requireConnection } from './connection.ts'
import type { CoordinatorClient } from './coordinator-client.ts'
import type { CommonFlags } from './flags.ts'
import { catchInterrupts } from './interrupt.ts'
import { readLayers } from './settings.ts'
import type { Terminal } from './terminal.ts'

export interface Asking {
  readonly client: CoordinatorClient
  readonly layers: Layers
  readonly signal: AbortSignal
}

/**
 * Finds and connects to the coordinator for the time that `ask` takes.
 * @throws HearthError `environment` when none is known, `unavailable` when it does not answer.
 */
export async function askCoordinator<Answer>(
  terminal: Terminal,
  flags: CommonFlags & { project?: string },
  ask: (asking: Asking) => Promise<Answer>,
): Promise<Answer> {
  const layers = await readLayers(terminal, { data: flags.data, project: flags.project })
  const connection = await requireConnection(terminal, layers)
  const { connectCoordinator } = await import('./coordinator-client.ts')
  using client = connectCoordinator(connection)
  using interrupt = catchInterrupts()
  return await ask({ client, layers, signal: interrupt.signal })
}
