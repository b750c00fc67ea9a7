/** `hearth coordinator`: a coordinator in the foreground, for nodes and clients on other machines. */
import os from 'node:os'
import path from 'node:path'
import { findSetting } from '../../core/config.ts'
import { writeFileDurably } from '../../core/format-version.ts'
import { createLogger, type LogLevel } from '../../core/log.ts'
import { dataClientFile, writeClientFile } from '../client-file.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { catchStop } from '../daemon/stop-signal.ts'
import { runFlags } from '../flags.ts'
import { parseListenAddress } from '../listen-address.ts'
import { defaultPort, findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags {
  data?: string
  listen?: string
  meshListen?: string
  logLevel?: string
  json?: boolean
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('coordinator', args, terminal, (command, run) => {
      command
        .description('Runs a coordinator until SIGTERM or Ctrl-C; logs to standard error.')
        .option('--data <folder>', 'where to keep everything (HEARTH_DATA)')
        .option('--listen <host:port>', `where to listen (0.0.0.0:${defaultPort})`)
        .option(
          '--mesh-listen <host:port>',
          'where its peer in the mesh listens (else any free port of that host)',
        )
        .option('--log-level <level>', 'trace, debug, info, warn or error (HEARTH_LOG_LEVEL, info)')
        .option('--json', 'print one JSON document once it is ready')
        .action((flags: Flags) => run(runCoordinator(terminal, flags)))
    }),
}

async function runCoordinator(terminal: Terminal, flags: Flags): Promise<undefined> {
  using stop = catchStop(terminal)
  const layers = await readLayers(terminal, { data: flags.data, logLevel: flags.logLevel })
  const { folder } = await findDataFolder(terminal, layers)
  const port = Number((await findSetting(settings.port, layers))?.value ?? defaultPort)
  const logLevel = (await findSetting(settings.logLevel, layers))?.value ?? 'info'
  const listen =
    flags.listen === undefined ? undefined : parseListenAddress('--listen', flags.listen)
  const meshListen =
    flags.meshListen === undefined
      ? undefined
      : parseListenAddress('--mesh-listen', flags.meshListen)
  const layout = await prepareDataFolder(folder)
  // Only now: mistakes in the flags are told at once.
  const { startCoordinator } = await import('../../coordinator/main.ts')
  await using coordinator = await startCoordinator({
    folder: layout.coordinator,
    listen: listen ?? { host: '0.0.0.0', port },
    meshListen,
    log: createLogger(logLevel as LogLevel),
    signal: stop.signal,
  })
  const { address, caPem, adminToken } = coordinator
  const caFile = path.join(folder, 'ca.pem')
  await writeFileDurably(caFile, caPem, 0o644)
  await writeClientFile(dataClientFile(folder), { address, caPem, token: adminToken })
  const joinToken = await coordinator.newJoinToken()
  // Nodes come from other machines, where loopback would be their own.
  const isEverywhere = listen === undefined || ['0.0.0.0', '::'].includes(listen.host)
  const joinAddress = isEverywhere ? `${os.hostname()}:${coordinator.port}` : address
  const document = { address, joinAddress, caFile, joinToken }
  if (flags.json === true) answer(terminal, { json: true }, document, [])
  else {
    terminal.note(`hearth: coordinator on ${address}; a node joins it, once, with`)
    terminal.note(`  hearth node --join ${joinAddress} --token ${joinToken} --ca ${caFile}`)
  }
  await stop.asked
}
