/** `hearth exec`: any BuildKit client on Hearth's nodes. */
import { runExec } from '../exec/run-exec.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import type { Terminal, Verb } from '../terminal.ts'

interface Flags extends CommonFlags {
  project?: string
  platform?: string
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('exec', args, terminal, (command, run) => {
      addClientFlags(command)
        .description(
          'Runs a command whose BuildKit client builds on a node: BUILDKIT_HOST names the node for buildctl and ' +
            'programs with BuildKit\'s client, BUILDX_BUILDER for "docker build" and "docker buildx".',
        )
        .option('--project <name>', 'the project that the builds belong to (HEARTH_PROJECT)')
        .option('--platform <list>', 'what is built, as in "linux/amd64,linux/arm64"')
        .argument('<command...>', 'the command and its arguments, best after "--"')
        .passThroughOptions()
        .action((words: string[], flags: Flags) => run(exec(terminal, words, flags)))
    }),
}

function exec(terminal: Terminal, command: readonly string[], flags: Flags): Promise<number> {
  const { project, data } = flags
  const named = flags.platform ?? terminal.env.DOCKER_DEFAULT_PLATFORM ?? ''
  const platforms = named.split(',').map((platform) => platform.trim())
  return runExec(
    {
      command,
      platforms: platforms.filter((platform) => platform !== '' && platform !== 'local'),
      own: {
        ...(project === undefined ? {} : { project }),
        ...(data === undefined ? {} : { data }),
      },
      json: flags.json === true,
    },
    terminal,
  )
}
