/** `hearth up`: a coordinator and its builder nodes on this machine. */
import { Option } from 'commander'
import { findSetting, type Layers } from '../../core/config.ts'
import { describeError, toHearthError } from '../../core/errors.ts'
import type { LogLevel } from '../../core/log.ts'
import { loginClientFile, readClientFile } from '../client-file.ts'
import {
  addBuilderFlags,
  type BuilderFlags,
  builderSettings,
  repeatedFlags,
} from '../daemon/builder-flags.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { findUpProcess } from '../daemon/up-file.ts'
import { readDiskSettings } from '../disk-settings.ts'
import { runFlags } from '../flags.ts'
import { isRoot } from '../folders.ts'
import { readInteger } from '../integer-flag.ts'
import { catchInterrupts } from '../interrupt.ts'
import { readNodeSettings } from '../node-settings.ts'
import { defaultPort, findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { startInBackground, tellStarter } from './up/background.ts'

interface Flags extends BuilderFlags {
  data?: string
  port?: string
  nodes?: string
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
  /** Of all its nodes, the first one among them. */
  readonly nodeIds?: readonly string[]
  /** Where it runs in a container engine instead. */
  readonly engine?: string
  readonly container?: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('up', args, terminal, (command, run) => {
      addBuilderFlags(
        command
          .description('Starts a coordinator and a builder node on this machine, on loopback.')
          .option('--data <folder>', 'where to keep everything (HEARTH_DATA)')
          .option(
            '--port <number>',
            `the coordinator's port, 0 for any (HEARTH_PORT, ${defaultPort})`,
          )
          .option('--nodes <count>', 'builder nodes, each with a store of its own', '1'),
      )
        .option('--foreground', 'stay until SIGTERM or Ctrl-C, and log to standard error')
        .option('--json', 'print one JSON document')
        // For a container, whose own loopback nobody outside can reach. The node's port is the next one.
        .addOption(new Option('--host <address>').hideHelp())
        .action((flags: Flags) => run(up(terminal, flags)))
    }),
}

async function up(terminal: Terminal, flags: Flags): Promise<undefined> {
  const { foreground, json, host, ...typed } = flags
  const layers = await readLayers(terminal, {
    ...builderSettings(typed),
    data: typed.data,
    port: typed.port,
  })
  readNodeCount(typed)
  const { folder } = await findDataFolder(terminal, layers)
  if (foreground === true) {
    const nodes = readNodeCount(typed)
    await serveInForeground(terminal, folder, layers, { json: json === true, host, nodes })
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
    {
      folder: data,
      port: port === 0 ? defaultPort : port,
      nodes: readNodeCount(typed),
      flags: repeated(further),
    },
    options,
  )
  return { ...started, data }
}

async function serveInForeground(
  terminal: Terminal,
  folder: string,
  layers: Layers,
  options: { json: boolean; host: string | undefined; nodes: number },
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
        nodes: options.nodes,
        nodeSettings,
        logLevel,
      },
      (serving) => {
        tellStarter({ type: 'ready', serving })
        const document: UpDocument = { state: 'up', ...serving, data: folder }
        if (options.json) answer(terminal, { json: true }, document, [])
        else {
          const nodes = serving.nodeIds.map((id) => `node ${id}`).join(', ')
          terminal.note(`hearth: up on ${serving.address} with ${nodes}`)
        }
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
  const port = typed.port === undefined ? [] : ['--port', typed.port]
  const nodes = typed.nodes === undefined ? [] : ['--nodes', typed.nodes]
  return [...port, ...nodes, ...repeatedFlags(typed)]
}

/** @throws HearthError `invalid-input` */
function readNodeCount({ nodes = '1' }: Flags): number {
  return readInteger('--nodes', nodes, { min: 1, max: 16 })
}

function describe(document: UpDocument): string[] {
  const facts = [
    `coordinator ${document.address}`,
    ...(document.nodeIds ?? []).map((id) => `node ${id}`),
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
