/** `hearth mounts`: what steps have gathered in cache mounts; begin one anew. */
import { AdminService, type NodeMounts } from '../../proto/generated/hearth/v1/coordinator.ts'
import { findProject, readProjectFile } from '../build/project.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { readLayers } from '../settings.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatBytes } from '../units.ts'

interface Flags extends CommonFlags {
  project?: string
}

/** A node may have to delete a few hundred thousand files. */
const slowCallMs = 5 * 60_000

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('mounts', args, terminal, (command, run) => {
      command.description('Shows and resets what cache mounts hold.')
      addClientFlags(command.command('list', { isDefault: true }))
        .description('Shows the cache mounts that each node knows of.')
        .option('--project <name>', 'only this project')
        .action((flags: Flags) => run(showMounts(terminal, flags)))
      addClientFlags(command.command('reset'))
        .description('Lets every node begin with an empty mount.')
        .argument('<id>', 'as "hearth mounts" shows it')
        .option('--project <name>', 'the project; without it, that of this folder')
        .action((id: string, flags: Flags) => run(resetMount(terminal, id, flags)))
    }),
}

async function showMounts(terminal: Terminal, flags: Flags): Promise<undefined> {
  const { nodes } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.listMounts, { project: flags.project ?? '' }, { signal }),
  )
  answer(terminal, { json: flags.json === true }, { nodes }, describeMounts(nodes))
}

function describeMounts(nodes: readonly NodeMounts[]): string[] {
  const now = new Date()
  const rows = nodes.flatMap(({ nodeId, mounts }) => mounts.map((mount) => ({ ...mount, nodeId })))
  if (rows.length === 0) return ['No cache mounts yet.']
  return formatTable<(typeof rows)[number]>(
    [
      { title: 'NODE', value: (row) => row.nodeId },
      { title: 'PROJECT', value: (row) => row.scope?.project ?? '-' },
      { title: 'LINE', value: (row) => row.scope?.line ?? '-' },
      { title: 'ID', value: (row) => row.id },
      { title: 'KIND', value: (row) => row.kind },
      { title: 'BYTES', value: (row) => formatBytes(row.bytes), align: 'right' },
      { title: 'FILES', value: (row) => `${row.files}`, align: 'right' },
      { title: 'USED', value: (row) => formatAge(row.lastUsedAt, now) },
      { title: 'SAVES', value: (row) => formatSaved(row.secondsSaved), align: 'right' },
    ],
    rows,
  )
}

function formatSaved(seconds: number): string {
  return seconds === 0 ? '-' : `${seconds.toFixed(1)} s`
}

async function resetMount(terminal: Terminal, id: string, flags: Flags): Promise<undefined> {
  const file = await readProjectFile(terminal.folder)
  const layers = await readLayers(terminal, { project: flags.project }, file ? [file] : [])
  const { project } = await findProject(layers, terminal.folder)
  const { snapshots } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.resetMount, { project, id }, { signal, timeoutMs: slowCallMs }),
  )
  const done = snapshots === 0 ? 'nothing of it was known' : 'it begins empty from now on'
  answer(terminal, { json: flags.json === true }, { project, id, snapshots }, [
    `The cache mount ${id} of ${project}: ${done}.`,
  ])
}
