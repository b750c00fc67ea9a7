/** `hearth builds`: what ran, newest first. */
import type { Build } from '../../proto/generated/hearth/v1/build.ts'
import { BuildsService } from '../../proto/generated/hearth/v1/coordinator.ts'
import { buildSummaryDocument, buildWord } from '../build-document.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { readInteger } from '../integer-flag.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatDuration } from '../units.ts'

interface Flags extends CommonFlags {
  project?: string
  limit: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('builds', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Lists builds, newest first.')
        .option('--project <name>', 'only builds of this project')
        .option('--limit <count>', 'at most this many', '20')
        .action((flags: Flags) => run(listBuilds(terminal, flags)))
    }),
}

async function listBuilds(terminal: Terminal, flags: Flags): Promise<undefined> {
  const limit = readInteger('--limit', flags.limit, { min: 1, max: 1000 })
  const { builds } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(BuildsService.listBuilds, { project: flags.project ?? '', limit }, { signal }),
  )
  const json = flags.json === true
  answer(terminal, { json }, { builds: builds.map(buildSummaryDocument) }, describe(builds))
}

function describe(builds: readonly Build[]): string[] {
  if (builds.length === 0) return ['No builds yet. Start one with "hearth build PATH".']
  const now = new Date()
  return formatTable<Build>(
    [
      { title: 'ID', value: (build) => build.id },
      { title: 'PROJECT', value: (build) => build.scope?.project ?? '-' },
      { title: 'OPENED', value: (build) => formatAge(build.openedAt, now) },
      { title: 'OUTCOME', value: (build) => buildWord(build.outcome) },
      { title: 'TIME', value: (build) => formatDuration(build.durationMs), align: 'right' },
      {
        title: 'REUSED',
        value: (build) => `${build.stepsReused} of ${build.stepsTotal}`,
        align: 'right',
      },
      { title: 'SAVED', value: (build) => formatDuration(build.savedMs), align: 'right' },
      { title: 'COMMAND', value: (build) => build.command },
    ],
    builds,
  )
}
