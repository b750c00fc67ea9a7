/** `hearth node`: a builder node in the foreground, for a coordinator on another machine. */
import path from 'node:path'
import { findSetting, findText } from '../../core/config.ts'
import { HearthError } from '../../core/errors.ts'
import { createLogger, type LogLevel } from '../../core/log.ts'
import { readPem } from '../connection.ts'
import { addBuilderFlags, type BuilderFlags, builderSettings } from '../daemon/builder-flags.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { type JoinedCoordinator, readJoined, writeJoined } from '../daemon/joined.ts'
import { catchStop } from '../daemon/stop-signal.ts'
import { readDiskSettings } from '../disk-settings.ts'
import { runFlags } from '../flags.ts'
import { parseListenAddress } from '../listen-address.ts'
import { readNodeSettings } from '../node-settings.ts'
import { findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags extends BuilderFlags {
  join?: string
  token?: string
  ca?: string
  data?: string
  listen: string
  meshListen?: string
  name?: string
  platform?: string
  json?: boolean
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('node', args, terminal, (command, run) => {
      addBuilderFlags(
        command
          .description('Runs a builder node until SIGTERM or Ctrl-C; logs to standard error.')
          .option('--join <host:port>', 'the coordinator; remembered after the first time')
          .option('--token <token>', 'its join token, the first time (else HEARTH_JOIN_TOKEN)')
          .option('--ca <file>', "the coordinator's certificate authority (PEM), the first time")
          .option('--data <folder>', 'where to keep everything (HEARTH_DATA)')
          .option('--listen <host:port>', 'where builds reach this node', '0.0.0.0:4328')
          .option(
            '--mesh-listen <host:port>',
            'where other nodes reach it, blobs on the next port (else any free ports)',
          )
          .option('--name <text>', "how people call it (else the machine's name)")
          .option(
            '--platform <os/arch>',
            'what it builds, by emulation (HEARTH_NODE_PLATFORM; else natively)',
          ),
      )
        .option('--json', 'print one JSON document once it is ready')
        .action((flags: Flags) => run(runNode(terminal, flags)))
    }),
}

async function runNode(terminal: Terminal, flags: Flags): Promise<undefined> {
  using stop = catchStop(terminal)
  const layers = await readLayers(terminal, {
    ...builderSettings(flags),
    data: flags.data,
    platform: flags.platform,
  })
  const { folder } = await findDataFolder(terminal, layers)
  const nodeSettings = await readNodeSettings(layers)
  const disk = await readDiskSettings(layers)
  const level = (await findSetting(settings.logLevel, layers))?.value ?? 'info'
  const listen = parseListenAddress('--listen', flags.listen)
  const meshListen =
    flags.meshListen === undefined
      ? undefined
      : parseListenAddress('--mesh-listen', flags.meshListen)
  const platform = (await findText(settings.platform, layers))?.value
  const layout = await prepareDataFolder(folder)
  const coordinator = await findCoordinator(terminal, folder, flags)
  // Only now: mistakes in the flags are told at once, and on any system.
  const { startNode } = await import('../../node/main.ts')
  await using node = await startNode({
    folder: layout.node,
    coordinator,
    joinToken: flags.token ?? terminal.env.HEARTH_JOIN_TOKEN,
    listen,
    meshListen,
    name: flags.name,
    platform,
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
