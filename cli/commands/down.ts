/** `hearth down`: stops what `hearth up` started. */
import { toHearthError } from '../../core/errors.ts'
import { stopContainer } from '../daemon/container.ts'
import { findUpProcess, waitUntilGone } from '../daemon/up-file.ts'
import { runFlags } from '../flags.ts'
import { catchInterrupts } from '../interrupt.ts'
import { findDataFolder, readLayers } from '../settings.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags {
  data?: string
  json?: boolean
}

// Builds in progress are cancelled, but BuildKit and the stores are given the time to close.
const stopMs = 60_000

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('down', args, terminal, (command, run) => {
      command
        .description('Stops what "hearth up" started.')
        .option('--data <folder>', 'the data folder it was started with (HEARTH_DATA)')
        .option('--json', 'print one JSON document')
        .action((flags: Flags) => run(down(terminal, flags)))
    }),
}

async function down(terminal: Terminal, flags: Flags): Promise<undefined> {
  const layers = await readLayers(terminal, { data: flags.data })
  const { folder: data } = await findDataFolder(terminal, layers)
  const json = flags.json === true
  const running = await findUpProcess(data)
  if (running === undefined) {
    using interrupt = catchInterrupts()
    if (await stopContainer(terminal, data, { signal: interrupt.signal })) {
      answer(terminal, { json }, { state: 'down', data }, ['Hearth is down.'])
      return
    }
    answer(terminal, { json }, { state: 'not up', data }, [`Hearth is not up in ${data}.`])
    return
  }
  const { pid } = running
  try {
    process.kill(pid, 'SIGTERM')
  } catch (error) {
    throw toHearthError(error, `stop process ${pid}`)
  }
  await waitUntilGone(data, pid, stopMs)
  answer(terminal, { json }, { state: 'down', pid, data }, [`Hearth is down (it was pid ${pid}).`])
}
