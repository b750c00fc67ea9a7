/** `hearth tokens`: credentials for people, CI and new nodes. */
import { AdminService } from '../../proto/generated/hearth/v1/coordinator.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface CreateFlags extends CommonFlags {
  project?: string
  line?: string
  join?: boolean
  description: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('tokens', args, terminal, (command, run) => {
      command.description('Creates and revokes tokens.')
      addClientFlags(command.command('create'))
        .description('Creates a token and prints it, once: only its hash is kept.')
        .option('--project <name>', 'for this project alone; else for the whole installation')
        .option('--line <name>', 'for this trust line of the project; else its main line')
        .option('--join', 'for one node instead, once and within an hour (hearth node --token)')
        .option('--description <text>', 'what it is for', '')
        .action((flags: CreateFlags) => run(createToken(terminal, flags)))
      addClientFlags(command.command('revoke'))
        .description('Revokes a token.')
        .argument('<id>', 'the id that "tokens create" printed')
        .action((id: string, flags: CommonFlags) => run(revokeToken(terminal, id, flags)))
    }),
}

async function createToken(terminal: Terminal, flags: CreateFlags): Promise<undefined> {
  const request = {
    project: flags.project ?? '',
    line: flags.line ?? '',
    description: flags.description,
    join: flags.join === true,
  }
  const { id, token } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.createToken, request, { signal }),
  )
  const json = flags.json === true
  // The token alone on standard output, so that it can be piped to where secrets are kept.
  if (!json) terminal.note(`hearth: token ${id}; it is not shown again`)
  answer(terminal, { json }, { id, token }, [token])
}

async function revokeToken(terminal: Terminal, id: string, flags: CommonFlags): Promise<undefined> {
  await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.revokeToken, { id }, { signal }),
  )
  answer(terminal, { json: flags.json === true }, { id }, [`Revoked the token ${id}.`])
}
