/** `npm run bench -- NAME [--json] [--runs N] [--workload NAME]` */
import { HearthError } from '../core/errors.ts'

export interface BenchCommandLine {
  /** Undefined: all. */
  name: string | undefined
  json: boolean
  runs: number | undefined
  /** Undefined: each measurement's own. */
  workload: string | undefined
}

const runsMax = 100

/** @throws HearthError `invalid-input` */
export function readCommandLine(
  args: readonly string[],
  names: readonly string[],
): BenchCommandLine {
  const read: BenchCommandLine = {
    name: undefined,
    json: false,
    runs: undefined,
    workload: undefined,
  }
  const rest = [...args]
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--json') read.json = true
    else if (word === '--runs' || word.startsWith('--runs=')) {
      read.runs = readRuns(word === '--runs' ? rest.shift() : word.slice('--runs='.length))
    } else if (word === '--workload' || word.startsWith('--workload=')) {
      read.workload = word === '--workload' ? rest.shift() : word.slice('--workload='.length)
      if (read.workload === undefined) throw invalid('--workload needs a name', usage(names))
    } else if (word.startsWith('-')) {
      throw invalid(`unknown flag ${word}`, 'there are --json, --runs N and --workload NAME')
    } else if (read.name !== undefined) {
      throw invalid(`one measurement at a time: "${read.name}" or "${word}"`, usage(names))
    } else if (!names.includes(word)) {
      throw invalid(`no measurement is called "${word}"`, usage(names))
    } else read.name = word
  }
  return read
}

function readRuns(text: string | undefined): number {
  const runs = Number(text)
  if (Number.isInteger(runs) && runs >= 1 && runs <= runsMax) return runs
  throw invalid('--runs needs a whole number', `from 1 to ${runsMax}`)
}

function usage(names: readonly string[]): string {
  return `npm run bench -- ${names.join('|')} [--json] [--runs N] [--workload NAME]`
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError('invalid-input', message, { hint })
}
