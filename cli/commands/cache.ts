/** `hearth cache`: what the cache holds, whether it is sound; forget it. */
import { AdminService } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { NodeCacheUsage } from '../../proto/generated/hearth/v1/node.ts'
import { findProject, readProjectFile } from '../build/project.ts'
import { askCoordinator } from '../client-verb.ts'
import { exitCodes } from '../exit-codes.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { readLayers } from '../settings.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatBytes } from '../units.ts'
import { createVerifyWatch } from '../verify-watch.ts'

interface Flags extends CommonFlags {
  project?: string
}

// Deleting or measuring BuildKit's state walks many files.
const slowCallMs = 5 * 60_000
// Terabytes at the pace of a slow disk.
const verifyMs = 24 * 60 * 60_000

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('cache', args, terminal, (command, run) => {
      command.description('Shows, verifies and resets the cache.')
      addClientFlags(command.command('usage'))
        .description('Shows what the cache of each node holds.')
        .option('--project <name>', 'only this project')
        .action((flags: Flags) => run(showUsage(terminal, flags)))
      addClientFlags(command.command('verify'))
        .description('Reads every cached blob back; removes and reports what is damaged.')
        .option('--project <name>', 'only this project')
        .action((flags: Flags) => run(verifyCache(terminal, flags)))
      addClientFlags(command.command('reset'))
        .description("Forgets a project's cache on every node, BuildKit's state included.")
        .option('--project <name>', 'the project; without it, that of this folder')
        .action((flags: Flags) => run(resetCache(terminal, flags)))
    }),
}

async function showUsage(terminal: Terminal, flags: Flags): Promise<undefined> {
  const { nodes } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(
      AdminService.cacheUsage,
      { project: flags.project ?? '' },
      { signal, timeoutMs: slowCallMs },
    ),
  )
  answer(terminal, { json: flags.json === true }, { nodes }, describeUsage(nodes))
}

function describeUsage(nodes: readonly NodeCacheUsage[]): string[] {
  const now = new Date()
  const rows = nodes.flatMap((node) =>
    node.scopes.map((usage) => ({ ...usage, nodeId: node.nodeId })),
  )
  const totals = nodes.flatMap((node) => [...describeDisk(node), ...describeObjectStore(node)])
  if (rows.length === 0) return [...totals, 'No cache yet.']
  const table = formatTable<(typeof rows)[number]>(
    [
      { title: 'NODE', value: (row) => row.nodeId },
      { title: 'PROJECT', value: (row) => row.scope?.project ?? '-' },
      { title: 'LINE', value: (row) => row.scope?.line ?? '-' },
      { title: 'BLOBS', value: (row) => `${row.blobs}`, align: 'right' },
      { title: 'BYTES', value: (row) => formatBytes(row.bytes), align: 'right' },
      { title: 'FRAGMENTS', value: (row) => `${row.fragments}`, align: 'right' },
      { title: 'BUILDKIT', value: (row) => formatBytes(row.buildkitBytes), align: 'right' },
      { title: 'SHARED', value: (row) => formatBytes(row.sharedBytes), align: 'right' },
      { title: 'USED', value: (row) => formatAge(row.lastUsedAt, now) },
    ],
    rows,
  )
  return [...table, '', ...describeProjects(nodes), '', ...totals]
}

/** What a policy counts: all that a project has on a node, what is shared on disk once. */
function describeProjects(nodes: readonly NodeCacheUsage[]): string[] {
  const rows = nodes.flatMap((node) =>
    node.projects.map((usage) => ({ ...usage, nodeId: node.nodeId })),
  )
  return formatTable<(typeof rows)[number]>(
    [
      { title: 'NODE', value: (row) => row.nodeId },
      { title: 'PROJECT', value: (row) => row.project },
      { title: 'ON DISK', value: (row) => formatBytes(row.bytes), align: 'right' },
      { title: 'AT MOST', value: (row) => formatBytes(row.bytesMax), align: 'right' },
      { title: 'UNUSED MAX', value: (row) => `${row.daysMax} d`, align: 'right' },
    ],
    rows,
  )
}

/** A node that is older than this client tells less. */
function describeDisk({ nodeId, disk, storeBytes, diskFreeBytes }: NodeCacheUsage): string[] {
  if (disk === undefined) {
    return [
      `node ${nodeId}: ${formatBytes(storeBytes)} on disk, ${formatBytes(diskFreeBytes)} free`,
    ]
  }
  const parts = [
    `BuildKit's snapshots ${formatBytes(disk.snapshotBytes)}`,
    `its content ${formatBytes(disk.contentBytes)}`,
    `cache store ${formatBytes(disk.storeBytes)}`,
    ...(disk.setAsideBytes > 0 ? [`set aside ${formatBytes(disk.setAsideBytes)}`] : []),
    `less ${formatBytes(disk.sharedBytes)} that two of them share`,
  ]
  return [
    `node ${nodeId}: ${formatBytes(disk.totalBytes)} of at most ${formatBytes(disk.limitBytes)} on disk, ` +
      `${formatBytes(disk.freeBytes)} free`,
    `  ${parts.join(', ')}`,
    `  no new builds below ${formatBytes(disk.minimumFreeBytes)} free, builds are stopped below ` +
      formatBytes(disk.floorFreeBytes),
  ]
}

function describeObjectStore({ objectStore }: NodeCacheUsage): string[] {
  if (objectStore === undefined) return []
  const { queuedFragments, queuedBytes, trouble } = objectStore
  const waiting =
    queuedFragments === 0
      ? 'has everything'
      : `still gets ${queuedFragments} builds' cache (${formatBytes(queuedBytes)})`
  return [`  the object store ${waiting}${trouble === '' ? '' : `; ${trouble}`}`]
}

async function verifyCache(terminal: Terminal, flags: Flags): Promise<number> {
  const watch = createVerifyWatch(terminal)
  await askCoordinator(terminal, flags, async ({ client, signal }) => {
    const events = client.stream(
      AdminService.verifyCache,
      { project: flags.project ?? '' },
      { signal, timeoutMs: verifyMs },
    )
    for await (const event of events) watch.see(event)
  })
  const result = watch.result()
  answer(terminal, { json: flags.json === true }, result, [
    `Read ${result.blobs} blobs (${formatBytes(result.bytes)}); ` +
      (result.findings.length === 0
        ? 'all of them are sound.'
        : `${result.findings.length} were damaged.`),
  ])
  return result.findings.length === 0 ? exitCodes.ok : exitCodes.corrupt
}

async function resetCache(terminal: Terminal, flags: Flags): Promise<undefined> {
  const file = await readProjectFile(terminal.folder)
  const layers = await readLayers(terminal, { project: flags.project }, file ? [file] : [])
  const { project } = await findProject(layers, terminal.folder)
  const { bytesFreed } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.resetCache, { project }, { signal, timeoutMs: slowCallMs }),
  )
  answer(terminal, { json: flags.json === true }, { project, bytesFreed }, [
    `Forgot the cache of ${project}: ${formatBytes(bytesFreed)} freed.`,
  ])
}
