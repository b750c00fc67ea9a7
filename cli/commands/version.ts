/** `hearth version`. */
import { formatVersions } from '../../core/format-version.ts'
import { packageVersion } from '../../core/package-folder.ts'
import { runFlags } from '../flags.ts'
import { answer, type Verb } from '../terminal.ts'

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('version', args, terminal, (command, run) => {
      command
        .description('Shows the version of Hearth.')
        .option('--json', 'print one JSON document')
        .action((flags: { json?: boolean }) => {
          const document = {
            hearth: packageVersion(),
            node: process.versions.node,
            protocol: formatVersions.protocol,
            dataFolder: formatVersions.dataFolder,
          }
          const lines = [`hearth ${document.hearth} (Node ${document.node})`]
          answer(terminal, { json: flags.json === true }, document, lines)
          run(Promise.resolve(undefined))
        })
    }),
}
