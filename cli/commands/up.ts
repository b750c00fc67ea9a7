/** `hearth up`: a coordinator and one builder node on this machine. */
import { Option } from 'commander'
import { findSetting, type Layers } from '../../core/config.ts'
import { describeError, toHearthError } from '../../core/errors.ts'
import type { LogLevel } from '../../core/log.ts'
import { loginClientFile, readClientFile } from '../client-file.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { findUpProcess } from '../daemon/up-file.ts'
import { readDiskSettings } from '../disk-settings.ts'
import { runFlags } from '../flags.ts'
import { isRoot } from '../folders.ts'
import { catchInterrupts } from '../interrupt.ts'
import { readNodeSettings } from '../node-settings.ts'
import { defaultPort, findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { startInBackground, tellStarter } from './up/background.ts'

interface Flags {
  data?: string
  port?: string
  slots?: string
  buildMemory?: string
  buildCpus?: string
  reachLoopback?: string
  diskGb?: string
  diskFreeGb?: string
  logLevel?: string
  host?: string
  foreground?: boolean
  json?: boolean
}

/** How a running Hearth is told of. */
interface UpDocument {
  readonly state: 'up' | 'already up'
  readonly address: string
  readonly data: string
  /** Of a process on this machine. */
  readonly pid?: number
  readonly nodeId?: string
  /** Where it runs in a container engine instead. */
  readonly engine?: string
  readonly container?: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('up', args, terminal, (command, run) => {
      command
        .description('Starts a coordinator and one builder node on this machine, on loopback.')
        .option('--data <folder>', 'where to keep everything (HEARTH_DATA)')
        .option(
          '--port <number>',
          `the coordinator's port, 0 for any (HEARTH_PORT, ${defaultPort})`,
        )
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
        .option('--foreground', 'stay until SIGTERM or Ctrl-C, and log to standard error')
        .option('--json', 'print one JSON document')
        // For a container, whose own loopback nobody outside can reach. The node's port is the next one.
        .addOption(new Option('--host <address>').hideHelp())
        .action((flags: Flags) => run(up(terminal, flags)))
    }),
}

async function up(terminal: Terminal, flags: Flags): Promise<undefined> {
  const { foreground, json, host, ...typed } = flags
  const layers = await readLayers(terminal, { ...typed })
  const { folder } = await findDataFolder(terminal, layers)
  if (foreground === true) {
    await serveInForeground(terminal, folder, layers, { json: json === true, host })
    return
  }
  using interrupt = catchInterrupts()
  const options = { signal: interrupt.signal }
  const native = process.platform === 'linux' && isRoot()
  const start = native ? startProcess : startContainer
  const document = await start(terminal, folder, layers, typed, options)
  answer(terminal, { json: json === true }, document, describe(document))
  await warnOfLogin(terminal, document)
}

async function startProcess(
  terminal: Terminal,
  data: string,
  _layers: Layers,
  typed: Flags,
  options: { signal: AbortSignal },
): Promise<UpDocument> {
  const running = await findUpProcess(data)
  if (running?.ready !== undefined) {
    return { state: 'already up', pid: running.pid, ...running.ready, data }
  }
  const { log } = await prepareDataFolder(data)
  const args = ['up', '--foreground', '--data', data, ...repeated(typed)]
  const serving = await startInBackground(args, {
    folder: data,
    log,
    env: terminal.env,
    ...options,
  })
  return { state: 'up', ...serving, data }
}

async function startContainer(
  terminal: Terminal,
  data: string,
  layers: Layers,
  typed: Flags,
  options: { signal: AbortSignal },
): Promise<UpDocument> {
  const port = Number((await findSetting(settings.port, layers))?.value ?? defaultPort)
  const { upInContainer } = await import('../daemon/container.ts')
  const { port: _, ...further } = typed
  const started = await upInContainer(
    terminal,
    { folder: data, port: port === 0 ? defaultPort : port, flags: repeated(further) },
    options,
  )
  return { ...started, data }
}

async function serveInForeground(
  terminal: Terminal,
  folder: string,
  layers: Layers,
  options: { json: boolean; host: string | undefined },
): Promise<void> {
  try {
    const port = Number((await findSetting(settings.port, layers))?.value ?? defaultPort)
    const disk = await readDiskSettings(layers)
    const nodeSettings = { ...(await readNodeSettings(layers)), disk }
    const logLevel = ((await findSetting(settings.logLevel, layers))?.value ?? 'info') as LogLevel
    const { serve } = await import('./up/serve.ts')
    await serve(
      terminal,
      {
        folder,
        host: options.host,
        port,
        nodeSettings,
        logLevel,
      },
      (serving) => {
        tellStarter({ type: 'ready', serving })
        const document: UpDocument = { state: 'up', ...serving, data: folder }
        if (options.json) answer(terminal, { json: true }, document, [])
        else terminal.note(`hearth: up on ${serving.address} with node ${serving.nodeId}`)
      },
    )
  } catch (error) {
    const { code, message, hint } = toHearthError(error)
    tellStarter({ type: 'failed', code, message, hint })
    throw error
  }
}

/** What was typed, to be typed again. */
function repeated(typed: Flags): string[] {
  const flags = [
    ['--port', typed.port],
    ['--slots', typed.slots],
    ['--build-memory', typed.buildMemory],
    ['--build-cpus', typed.buildCpus],
    ['--reach-loopback', typed.reachLoopback],
    ['--disk-gb', typed.diskGb],
    ['--disk-free-gb', typed.diskFreeGb],
    ['--log-level', typed.logLevel],
  ] as const
  return flags.flatMap(([flag, value]) => (value === undefined ? [] : [flag, value]))
}

function describe(document: UpDocument): string[] {
  const facts = [
    `coordinator ${document.address}`,
    ...(document.nodeId === undefined ? [] : [`node ${document.nodeId}`]),
    ...(document.pid === undefined ? [] : [`pid ${document.pid}`]),
    ...(document.container === undefined
      ? []
      : [`${document.engine} container ${document.container}`]),
    `data in ${document.data}`,
  ]
  return [
    `Hearth is ${document.state}: ${facts.join(', ')}`,
    '',
    '  hearth build -t app:dev .   build an image',
    '  hearth builds               what ran, and how much was reused',
    '  hearth down                 stop',
  ]
}

/** Whoever logged in elsewhere would wonder why nothing gets built here. */
async function warnOfLogin(terminal: Terminal, document: UpDocument): Promise<void> {
  const file = loginClientFile(terminal.env)
  const login = await readClientFile(file).catch((error: unknown) => {
    terminal.note(`hearth: ${describeError(error)}`)
    return undefined
  })
  if (login === undefined || login.address === document.address) return
  terminal.note(`hearth: builds still go to ${login.address}, because of ${file}`)
  terminal.note(`  delete that file, or name this one with --data ${document.data}`)
}
