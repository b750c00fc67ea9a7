/** Flags and operands of a verb, by commander, with mistakes told the way Hearth tells them. */
import { Command, CommanderError } from 'commander'
import { HearthError } from '../core/errors.ts'
import { exitCodes } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

/** Flags that every printing verb takes. */
export interface CommonFlags {
  json?: boolean
  data?: string
}

/** What a verb's action returns is its exit code; nothing means success. */
export type Outcome = Promise<number | undefined>

/**
 * Declares and runs a verb.
 * @param declare adds description, flags, operands and the action; an action hands its promise to `run`.
 * @throws HearthError `invalid-input` for flags and operands that the verb does not have.
 */
export async function runFlags(
  name: string,
  args: readonly string[],
  terminal: Terminal,
  declare: (command: Command, run: (outcome: Outcome) => void) => void,
): Promise<number> {
  let outcome: Outcome = Promise.resolve(undefined)
  const command = new Command(`hearth ${name}`)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.print(text), writeErr: () => {} })
    .configureHelp({ helpWidth: 100 })
    .helpOption('-h, --help', 'show this')
    .helpCommand(false)
  declare(command, (promise) => {
    outcome = promise
  })
  try {
    command.parse(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.code === 'commander.helpDisplayed') return exitCodes.ok
    if (error.code === 'commander.help') return missingAction(name, command)
    throw usageError(name, error)
  }
  return (await outcome) ?? exitCodes.ok
}

/** Adds the flags of a verb that asks the coordinator. */
export function addClientFlags(command: Command): Command {
  return command
    .option('--json', 'print one JSON document')
    .option('--data <folder>', 'use the coordinator whose data folder this is (HEARTH_DATA)')
}

function missingAction(name: string, command: Command): never {
  const actions = command.commands.map((action) => action.name())
  throw new HearthError('invalid-input', `${name} needs to know what to do`, {
    hint: `say one of: ${actions.map((action) => `hearth ${name} ${action}`).join(', ')}`,
  })
}

/** Commander writes "error: unknown option '--x'\n(Did you mean --y?)". */
function usageError(name: string, error: CommanderError): HearthError {
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  const message = first
    .replace('unknown option', 'unknown flag')
    .replace('required option', 'required flag')
    .replace(/^option /, 'flag ')
    .replaceAll("'", '"')
  return new HearthError('invalid-input', `${name}: ${message}`, {
    hint:
      suggestion?.replace(/^\(Did you mean (.*)\?\)$/, 'did you mean $1?') ??
      `"hearth ${name} --help" shows what it takes`,
    cause: error,
  })
}
