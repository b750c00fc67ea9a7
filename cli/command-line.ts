/** Finds the verb, runs it, and turns whatever happens into an exit code. */
import { HearthError } from '../core/errors.ts'
import { nearest } from '../core/nearest.ts'
import { exitCodes } from './exit-codes.ts'
import { reportError } from './report-error.ts'
import type { Terminal } from './terminal.ts'
import { verbs } from './verbs.ts'

/** @param args the command line after the program's name. @returns the exit code. */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  const [first, ...rest] = args
  try {
    if (first === undefined) {
      terminal.note(help())
      return exitCodes.usage
    }
    if (first === '-h' || first === '--help' || first === 'help') {
      const about = first === 'help' ? rest[0] : undefined
      if (about !== undefined) return await runVerb(about, ['--help'], terminal)
      terminal.print(`${help()}\n`)
      return exitCodes.ok
    }
    if (first === '-V' || first === '--version') return await runVerb('version', rest, terminal)
    return await runVerb(first, rest, terminal)
  } catch (error) {
    return reportError(terminal, error, { json: args.includes('--json') })
  }
}

async function runVerb(name: string, args: readonly string[], terminal: Terminal): Promise<number> {
  const entry = Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (entry !== undefined) return await (await entry.load()).verb.run(args, terminal)
  const what = name.startsWith('-') ? 'flag' : 'verb'
  const near = nearest(name, Object.keys(verbs))
  throw new HearthError('invalid-input', `unknown ${what} "${name}"`, {
    hint: near === undefined ? '"hearth help" lists the verbs' : `did you mean "hearth ${near}"?`,
  })
}

function help(): string {
  const width = Math.max(...Object.values(verbs).map((entry) => entry.usage.length))
  const lines = Object.values(verbs).map(
    (entry) => `  ${entry.usage.padEnd(width)}  ${entry.summary}`,
  )
  return [
    'Usage: hearth VERB [FLAGS]',
    '',
    'Builds container images with a cache that is already warm.',
    '',
    ...lines,
    '',
    '"hearth VERB --help" explains one verb. Every verb that prints takes --json.',
  ].join('\n')
}
