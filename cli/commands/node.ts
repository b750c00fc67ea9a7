/** `hearth node`: a builder node in the foreground, for a coordinator on another machine. */
import path from 'node:path'
import { findSetting } from '../../core/config.ts'
import { HearthError } from '../../core/errors.ts'
import { createLogger, type LogLevel } from '../../core/log.ts'
import { readPem } from '../connection.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { type JoinedCoordinator, readJoined, writeJoined } from '../daemon/joined.ts'
import { catchStop } from '../daemon/stop-signal.ts'
import { readDiskSettings } from '../disk-settings.ts'
import { runFlags } from '../flags.ts'
import { parseListenAddress } from '../listen-address.ts'
import { readNodeSettings } from '../node-settings.ts'
import { findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags {
  join?: string
  token?: string
  ca?: string
  data?: string
  listen: string
  slots?: string
  buildMemory?: string
  buildCpus?: string
  reachLoopback?: string
  diskGb?: string
  diskFreeGb?: string
  logLevel?: string
  json?: boolean
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('node', args, terminal, (command, run) => {
      command
        .description('Runs a builder node until SIGTERM or Ctrl-C; logs to standard error.')
        .option('--join <host:port>', 'the coordinator; remembered after the first time')
        .option('--token <token>', 'its join token, the first time (else HEARTH_JOIN_TOKEN)')
        .option('--ca <file>', "the coordinator's certificate authority (PEM), the first time")
        .option('--data <folder>', 'where to keep everything (HEARTH_DATA)')
        .option('--listen <host:port>', 'where builds reach this node', '0.0.0.0:4328')
        .option('--slots <count>', 'builds at once (HEARTH_SLOTS; else as the machine allows)')
        .option(
          '--build-memory <size>',
          "what a build's steps may use, such as 6g (HEARTH_BUILD_MEMORY)",
        )
        .option(
          '--build-cpus <cores>',
          "what a build's steps may use, such as 1.5 (HEARTH_BUILD_CPUS)",
        )
        .option(
          '--reach-loopback <ports>',
          "ports of this machine's 127.0.0.1 that builds may use (HEARTH_REACH_LOOPBACK)",
        )
        .option('--disk-gb <size>', 'what its caches may take, in GB (HEARTH_DISK_GB)')
        .option(
          '--disk-free-gb <size>',
          'free disk below which no build begins, in GB (HEARTH_DISK_FREE_GB)',
        )
        .option('--log-level <level>', 'trace, debug, info, warn or error (HEARTH_LOG_LEVEL, info)')
        .option('--json', 'print one JSON document once it is ready')
        .action((flags: Flags) => run(runNode(terminal, flags)))
    }),
}

async function runNode(terminal: Terminal, flags: Flags): Promise<undefined> {
  using stop = catchStop(terminal)
  const layers = await readLayers(terminal, {
    data: flags.data,
    slots: flags.slots,
    buildMemory: flags.buildMemory,
    buildCpus: flags.buildCpus,
    reachLoopback: flags.reachLoopback,
    diskGb: flags.diskGb,
    diskFreeGb: flags.diskFreeGb,
    logLevel: flags.logLevel,
  })
  const { folder } = await findDataFolder(terminal, layers)
  const nodeSettings = await readNodeSettings(layers)
  const disk = await readDiskSettings(layers)
  const level = (await findSetting(settings.logLevel, layers))?.value ?? 'info'
  const listen = parseListenAddress('--listen', flags.listen)
  const layout = await prepareDataFolder(folder)
  const coordinator = await findCoordinator(terminal, folder, flags)
  // Only now: mistakes in the flags are told at once, and on any system.
  const { startNode } = await import('../../node/main.ts')
  await using node = await startNode({
    folder: layout.node,
    coordinator,
    joinToken: flags.token ?? terminal.env.HEARTH_JOIN_TOKEN,
    listen,
    ...nodeSettings,
    disk,
    log: createLogger(level as LogLevel),
    signal: stop.signal,
  })
  await writeJoined(folder, coordinator)
  const { nodeId } = node
  if (flags.json === true) {
    answer(terminal, { json: true }, { nodeId, coordinator: coordinator.address }, [])
  } else {
    terminal.note(`hearth: node ${nodeId} is in, at the coordinator ${coordinator.address}`)
  }
  await stop.asked
}

/** What was typed completes what is remembered. @throws HearthError `invalid-input` */
async function findCoordinator(
  terminal: Terminal,
  dataFolder: string,
  flags: Flags,
): Promise<JoinedCoordinator> {
  const joined = await readJoined(dataFolder)
  const address = flags.join ?? joined?.address
  if (address === undefined) {
    throw new HearthError('invalid-input', 'node: it is not known which coordinator to join', {
      hint: 'hearth node --join HOST:PORT --token TOKEN --ca FILE; "hearth coordinator" prints them',
    })
  }
  const caPem =
    flags.ca === undefined ? joined?.caPem : await readPem(path.resolve(terminal.folder, flags.ca))
  if (caPem === undefined) {
    throw new HearthError('invalid-input', `node: nothing vouches for the coordinator ${address}`, {
      hint: 'name its certificate authority with --ca (the file ca.pem in its data folder)',
    })
  }
  return { address, caPem }
}
