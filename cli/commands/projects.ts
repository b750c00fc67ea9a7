/** `hearth projects`: the projects and their cache policies. */

import { AdminService, type Project } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { CachePolicy } from '../../proto/generated/hearth/v1/node.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { readInteger } from '../integer-flag.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatBytes } from '../units.ts'

interface CreateFlags extends CommonFlags {
  cacheGb?: string
  cacheDays?: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('projects', args, terminal, (command, run) => {
      command.description('Shows and creates projects.')
      addClientFlags(command.command('list'))
        .description('Lists the projects.')
        .action((flags: CommonFlags) => run(listProjects(terminal, flags)))
      addClientFlags(command.command('create'))
        .description('Creates a project.')
        .argument('<name>', 'lower-case letters, digits and inner hyphens')
        .option('--cache-gb <size>', 'cache it may keep on each node, in GB')
        .option('--cache-days <days>', 'days after which unused cache goes')
        .action((name: string, flags: CreateFlags) => run(createProject(terminal, name, flags)))
    }),
}

async function listProjects(terminal: Terminal, flags: CommonFlags): Promise<undefined> {
  const { projects } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.listProjects, {}, { signal }),
  )
  const document = { projects: projects.map(projectDocument) }
  answer(terminal, { json: flags.json === true }, document, describe(projects))
}

async function createProject(
  terminal: Terminal,
  name: string,
  flags: CreateFlags,
): Promise<undefined> {
  const policy = readPolicy(flags)
  const { project } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.createProject, { name, policy }, { signal }),
  )
  const created: Project = project ?? { name, createdAt: undefined, policy }
  const json = flags.json === true
  answer(terminal, { json }, projectDocument(created), [`Created the project ${created.name}.`])
}

/** Zero stands for the node's default, as on the wire. */
function readPolicy(flags: CreateFlags): CachePolicy | undefined {
  if (flags.cacheGb === undefined && flags.cacheDays === undefined) return undefined
  const gigabytes = readInteger('--cache-gb', flags.cacheGb ?? '0', { min: 0, max: 1_000_000 })
  const daysMax = readInteger('--cache-days', flags.cacheDays ?? '0', { min: 0, max: 10_000 })
  return { bytesMax: gigabytes * 1e9, daysMax }
}

function projectDocument(project: Project) {
  return {
    name: project.name,
    createdAt: project.createdAt,
    cacheBytesMax: project.policy?.bytesMax || null,
    cacheDaysMax: project.policy?.daysMax || null,
  }
}

function describe(projects: readonly Project[]): string[] {
  if (projects.length === 0) return ['No projects yet. "hearth projects create NAME" makes one.']
  const now = new Date()
  return formatTable<Project>(
    [
      { title: 'NAME', value: (project) => project.name },
      { title: 'CREATED', value: (project) => formatAge(project.createdAt, now) },
      {
        title: 'CACHE MAX',
        value: (project) =>
          project.policy?.bytesMax ? formatBytes(project.policy.bytesMax) : 'default',
        align: 'right',
      },
      {
        title: 'UNUSED MAX',
        value: (project) => (project.policy?.daysMax ? `${project.policy.daysMax} d` : 'default'),
        align: 'right',
      },
    ],
    projects,
  )
}
