/** `hearth up`: a coordinator and one builder node on this machine. */

import { findSetting, type Layers } from '../../core/config.ts'
import { describeError, toHearthError } from '../../core/errors.ts'
import type { LogLevel } from '../../core/log.ts'
import { loginClientFile, readClientFile } from '../client-file.ts'
import { prepareDataFolder } from '../daemon/data-folder.ts'
import { findUpProcess } from '../daemon/up-file.ts'
import { runFlags } from '../flags.ts'
import { catchInterrupts } from '../interrupt.ts'
import { defaultPort, findDataFolder, readLayers, settings } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { startInBackground, tellStarter } from './up/background.ts'
import type { Serving } from './up/serve.ts'

interface Flags {
  data?: string
  port?: string
  slots?: string
  logLevel?: string
  foreground?: boolean
  json?: boolean
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
        .option('--log-level <level>', 'trace, debug, info, warn or error (HEARTH_LOG_LEVEL, info)')
        .option('--foreground', 'stay until SIGTERM or Ctrl-C, and log to standard error')
        .option('--json', 'print one JSON document')
        .action((flags: Flags) => run(up(terminal, flags)))
    }),
}

async function up(terminal: Terminal, flags: Flags): Promise<undefined> {
  const { foreground, json, ...typed } = flags
  const layers = await readLayers(terminal, { ...typed })
  const { folder } = await findDataFolder(terminal, layers)
  if (foreground === true) {
    await serveInForeground(terminal, folder, layers, json === true)
    return
  }
  const running = await findUpProcess(folder)
  if (running?.ready !== undefined) {
    const serving = { pid: running.pid, ...running.ready }
    await say(terminal, 'already up', serving, folder, json === true)
    return
  }
  const { log } = await prepareDataFolder(folder)
  using interrupt = catchInterrupts()
  const serving = await startInBackground(foregroundArguments(folder, typed), {
    folder,
    log,
    env: terminal.env,
    signal: interrupt.signal,
  })
  await say(terminal, 'up', serving, folder, json === true)
}

async function serveInForeground(
  terminal: Terminal,
  folder: string,
  layers: Layers,
  json: boolean,
): Promise<void> {
  try {
    const port = Number((await findSetting(settings.port, layers))?.value ?? defaultPort)
    const slots = (await findSetting(settings.slots, layers))?.value
    const logLevel = (await findSetting(settings.logLevel, layers))?.value ?? 'info'
    const { serve } = await import('./up/serve.ts')
    await serve(
      terminal,
      {
        folder,
        port,
        slots: slots === undefined ? undefined : Number(slots),
        logLevel: logLevel as LogLevel,
      },
      (serving) => {
        tellStarter({ type: 'ready', serving })
        if (json) answer(terminal, { json }, document('up', serving, folder), [])
        else terminal.note(`hearth: up on ${serving.address} with node ${serving.nodeId}`)
      },
    )
  } catch (error) {
    const { code, message, hint } = toHearthError(error)
    tellStarter({ type: 'failed', code, message, hint })
    throw error
  }
}

/** The same settings again, the folder made absolute. */
function foregroundArguments(folder: string, typed: Omit<Flags, 'foreground' | 'json'>): string[] {
  return [
    ...['up', '--foreground', '--data', folder],
    ...(typed.port === undefined ? [] : ['--port', typed.port]),
    ...(typed.slots === undefined ? [] : ['--slots', typed.slots]),
    ...(typed.logLevel === undefined ? [] : ['--log-level', typed.logLevel]),
  ]
}

function document(state: 'up' | 'already up', serving: Serving, data: string) {
  return { state, ...serving, data }
}

async function say(
  terminal: Terminal,
  state: 'up' | 'already up',
  serving: Serving,
  data: string,
  json: boolean,
): Promise<void> {
  answer(terminal, { json }, document(state, serving, data), [
    `Hearth is ${state}: coordinator ${serving.address}, node ${serving.nodeId}, pid ${serving.pid}, data in ${data}`,
    '',
    '  hearth build -t app:dev .   build an image',
    '  hearth builds               what ran, and how much was reused',
    '  hearth down                 stop',
  ])
  const login = loginClientFile(terminal.env)
  const elsewhere = await readClientFile(login).catch((error: unknown) => {
    terminal.note(`hearth: ${describeError(error)}`)
    return undefined
  })
  if (elsewhere !== undefined && elsewhere.address !== serving.address) {
    terminal.note(`hearth: builds still go to ${elsewhere.address}, because of ${login}`)
    terminal.note(`  delete that file, or name this one with --data ${data}`)
  }
}
