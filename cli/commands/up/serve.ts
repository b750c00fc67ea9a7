/** Coordinator and nodes in this process, on loopback: what `hearth up` runs. */
import os from 'node:os'
import { startCoordinator } from '../../../coordinator/main.ts'
import { createLogger, type LogLevel } from '../../../core/log.ts'
import { startNode } from '../../../node/main.ts'
import { slotsOfThisMachine } from '../../../node/scheduler/index.ts'
import { dataClientFile, writeClientFile } from '../../client-file.ts'
import { prepareDataFolder } from '../../daemon/data-folder.ts'
import { catchStop } from '../../daemon/stop-signal.ts'
import { claimUp } from '../../daemon/up-file.ts'
import type { NodeSettings } from '../../node-settings.ts'
import type { Terminal } from '../../terminal.ts'

export interface ServeOptions {
  readonly folder: string
  /** Default: loopback. */
  readonly host: string | undefined
  /** Of the coordinator; 0 takes any free one. */
  readonly port: number
  /** How many; each has a data folder, ports and bridges of its own. */
  readonly nodes: number
  readonly nodeSettings: NodeSettings
  readonly logLevel: LogLevel
}

export interface Serving {
  readonly pid: number
  readonly address: string
  readonly nodeId: string
  /** The first one's among them. */
  readonly nodeIds: readonly string[]
}

const loopback = '127.0.0.1'

/**
 * Serves until SIGTERM or SIGINT.
 * @param onReady called once builds are possible.
 * @throws HearthError when something does not start; what had started is stopped again.
 */
export async function serve(
  terminal: Terminal,
  options: ServeOptions,
  onReady: (serving: Serving) => void,
): Promise<void> {
  using stop = catchStop(terminal)
  const { signal } = stop
  const log = createLogger(options.logLevel)
  const layout = await prepareDataFolder(options.folder)
  await using claim = await claimUp(options.folder)
  await using coordinator = await startCoordinator({
    folder: layout.coordinator,
    listen: { host: options.host ?? loopback, port: options.port },
    log: log.child({ room: 'coordinator' }),
    signal,
  })
  const { address, caPem, adminToken } = coordinator
  await writeClientFile(dataClientFile(options.folder), { address, caPem, token: adminToken })
  await using running = new AsyncDisposableStack()
  const nodeIds: string[] = []
  // One after another: they share the cores that each needs to start.
  for (let number = 1; number <= options.nodes; number += 1) {
    const isFirst = number === 1
    const node = running.use(
      await startNode({
        folder: isFirst ? layout.node : `${layout.node}-${number}`,
        coordinator: { address, caPem },
        joinToken: await coordinator.newJoinToken(),
        // Somebody who chose the host publishes ports, and has to know this one as well.
        listen:
          options.host === undefined
            ? { host: loopback, port: 0 }
            : { host: options.host, port: options.port + number },
        ...(isFirst ? {} : { name: `${os.hostname()}-${number}` }),
        ...options.nodeSettings,
        slots: options.nodeSettings.slots ?? partOfSlots(options.nodes),
        log: log.child({ room: isFirst ? 'node' : `node-${number}` }),
        signal,
      }),
    )
    nodeIds.push(node.nodeId)
  }
  const [nodeId = ''] = nodeIds
  await claim.markReady({ address, nodeId, nodeIds })
  onReady({ pid: process.pid, address, nodeId, nodeIds })
  await stop.asked
}

/** What the machine allows is for all of its nodes together. */
function partOfSlots(nodes: number): number | undefined {
  return nodes === 1 ? undefined : Math.max(1, Math.floor(slotsOfThisMachine() / nodes))
}
