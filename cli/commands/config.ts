/** `hearth config`: the settings that hold, and where each comes from. */
import {
  findSetting,
  findText,
  formatOrigin,
  type Layers,
  type Setting,
} from '../../core/config.ts'
import { deriveName, findProject, readProjectFile } from '../build/project.ts'
import { type ConnectionOrigin, findConnection } from '../connection.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { defaultPort, findDataFolder, readLayers, settings } from '../settings.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags extends CommonFlags {
  project?: string
}

interface Line {
  readonly name: string
  /** Undefined: nothing says it, and there is no default. */
  readonly value: string | number | undefined
  readonly origin: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('config', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Shows every setting, the value that holds, and where it comes from.')
        .option('--project <name>', 'as if a build were given this')
        .action((flags: Flags) => run(showConfig(terminal, flags)))
    }),
}

async function showConfig(terminal: Terminal, flags: Flags): Promise<undefined> {
  const projectFile = await readProjectFile(terminal.folder)
  const layers = await readLayers(
    terminal,
    { data: flags.data, project: flags.project },
    projectFile === undefined ? [] : [projectFile],
  )
  const lines: Line[] = [
    await projectLine(terminal, layers),
    await dataLine(terminal, layers),
    ...(await connectionLines(terminal, layers)),
    await describeSetting(settings.port, layers, defaultPort),
    await describeSetting(settings.slots, layers, 'as the machine allows'),
    await describeSetting(settings.buildMemory, layers, 'the machine’s, by slots'),
    await describeSetting(settings.buildCpus, layers, 'all that are idle'),
    await describeSetting(settings.reachLoopback, layers, 'none'),
    await describeSetting(settings.diskGb, layers, 'as the disk allows'),
    await describeSetting(settings.diskFreeGb, layers, 'as the disk allows'),
    await describeSetting(settings.s3, layers, 'none'),
    await describeSetting(settings.s3Endpoint, layers, 'AWS'),
    await describeSetting(settings.logLevel, layers, 'info'),
  ]
  const table = formatTable<Line>(
    [
      { title: 'SETTING', value: (line) => line.name },
      { title: 'VALUE', value: (line) => String(line.value ?? '-') },
      { title: 'FROM', value: (line) => line.origin },
    ],
    lines,
  )
  const document = { settings: lines.map((line) => ({ ...line, value: line.value ?? null })) }
  answer(terminal, { json: flags.json === true }, document, table)
}

async function projectLine(terminal: Terminal, layers: Layers): Promise<Line> {
  const named = await findText(settings.project, layers)
  if (named === undefined) {
    const { project, reason } = await deriveName(terminal.folder)
    return { name: 'project', value: project, origin: `default (${reason})` }
  }
  const { project, origin } = await findProject(layers, terminal.folder)
  return { name: 'project', value: project, origin: await formatOrigin(settings.project, origin) }
}

async function dataLine(terminal: Terminal, layers: Layers): Promise<Line> {
  const { folder } = await findDataFolder(terminal, layers)
  return { ...(await describeSetting(settings.data, layers, folder)), value: folder }
}

async function describeSetting(
  setting: Setting,
  layers: Layers,
  byDefault: string | number,
): Promise<Line> {
  const found = await findSetting(setting, layers)
  const origin = found?.origin ?? { type: 'default', reason: undefined }
  return {
    name: setting.name,
    value: found?.value ?? byDefault,
    origin: await formatOrigin(setting, origin),
  }
}

async function connectionLines(terminal: Terminal, layers: Layers): Promise<Line[]> {
  const found = await findConnection(terminal, layers)
  const line = async (setting: Setting, value?: string, origin?: ConnectionOrigin) => ({
    name: setting.name,
    value,
    origin: origin === undefined ? 'nowhere' : await formatConnectionOrigin(setting, origin),
  })
  return [
    await line(settings.coordinator, found?.address, found?.origins.address),
    await line(settings.token, found && '(secret)', found?.origins.token),
    await line(settings.ca, found && '(certificate)', found?.origins.caPem),
  ]
}

async function formatConnectionOrigin(setting: Setting, origin: ConnectionOrigin): Promise<string> {
  return origin.type === 'client file' ? origin.file : await formatOrigin(setting, origin)
}
