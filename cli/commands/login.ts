/** `hearth login`: remember a coordinator on another machine, after having asked it something. */
import path from 'node:path'
import { HearthError } from '../../core/errors.ts'
import { BuildsService } from '../../proto/generated/hearth/v1/coordinator.ts'
import { type ClientFile, loginClientFile, writeClientFile } from '../client-file.ts'
import { readPem } from '../connection.ts'
import { connectCoordinator } from '../coordinator-client.ts'
import { runFlags } from '../flags.ts'
import { catchInterrupts } from '../interrupt.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags {
  token?: string
  ca: string
  json?: boolean
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('login', args, terminal, (command, run) => {
      command
        .description('Remembers a coordinator, so that this person’s builds go there.')
        .argument('<address>', 'the coordinator, as host:port')
        .option(
          '--token <token>',
          'the credential (else HEARTH_TOKEN, which no process list shows)',
        )
        .requiredOption('--ca <file>', "the coordinator's certificate authority, as PEM")
        .option('--json', 'print one JSON document')
        .action((address: string, flags: Flags) => run(login(terminal, address, flags)))
    }),
}

async function login(terminal: Terminal, address: string, flags: Flags): Promise<undefined> {
  if (!/^(\[[0-9a-fA-F:]+\]|[^:\s/]+):\d{1,5}$/.test(address)) {
    throw new HearthError('invalid-input', `"${address}" is no address`, {
      hint: 'write host:port, for example builds.example.com:4327',
    })
  }
  const token = flags.token ?? terminal.env.HEARTH_TOKEN
  if (!token) {
    throw new HearthError('invalid-input', 'a token is missing', {
      hint: 'name it with --token or in HEARTH_TOKEN; "hearth tokens create" makes one',
    })
  }
  const caPem = await readPem(path.resolve(terminal.folder, flags.ca))
  const client: ClientFile = { address, caPem, token }
  await tryOut(client)
  const file = loginClientFile(terminal.env)
  await writeClientFile(file, client)
  answer(terminal, { json: flags.json === true }, { address, file }, [
    `Builds of this person now go to ${address} (kept in ${file}; delete it to undo).`,
  ])
}

/** Nothing is remembered that does not work. @throws HearthError */
async function tryOut(client: ClientFile): Promise<void> {
  using coordinator = connectCoordinator(client)
  using interrupt = catchInterrupts()
  await coordinator.call(
    BuildsService.listBuilds,
    { project: '', limit: 1 },
    { signal: interrupt.signal },
  )
}
