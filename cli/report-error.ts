/** How an error looks: what happened on one line, what to do on the next, no stack unless asked for. */
import { toHearthError } from '../core/errors.ts'
import { exitCodeOf } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

/** Says the error. @returns the exit code for it. */
export function reportError(
  terminal: Terminal,
  error: unknown,
  options: { json: boolean },
): number {
  const known = toHearthError(error)
  // Without a meaning of its own it is a bug, and whoever sees it should be able to report it.
  const hint =
    known.hint ??
    (known.code === 'internal' ? 'set HEARTH_DEBUG=1 to see where; please report it' : undefined)
  terminal.note(`hearth: ${known.message.replaceAll('\n', ' ')}`)
  if (hint !== undefined) terminal.note(`  ${hint.replaceAll('\n', '\n  ')}`)
  if (terminal.env.HEARTH_DEBUG === '1') terminal.note(stackOf(error))
  if (options.json) {
    const document = { error: { code: known.code, message: known.message, hint } }
    terminal.print(`${JSON.stringify(document, undefined, 2)}\n`)
  }
  return exitCodeOf(known.code)
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = error.stack ?? error.message
  return error.cause === undefined ? own : `${own}\nbecause: ${stackOf(error.cause)}`
}
