/**
 * Long runs that look for what short tests miss:
 *
 *   npm run soak -- mixed [--minutes N] [--seed S] [--json]   builds of all kinds, cancels and kills, and growth
 *   npm run soak -- kills [--rounds N] [--seed S] [--json]   one kill a round, and everything that must hold then
 *
 * With --json, one line on standard output. Exit code 1 when something was not as it must be.
 */
import { parseArgs } from 'node:util'
import { describeError, HearthError } from '../../core/errors.ts'
import { soakKills } from './kills.ts'
import { soakMixed } from './mixed.ts'

const minutesMax = 24 * 60
const roundsMax = 100_000

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`soak: ${describeError(error)}\n`)
  process.exitCode = 2
}

async function main(args: readonly string[]): Promise<number> {
  const { name, minutes, rounds, seed, json } = readCommandLine(args)
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`)
  }
  const result =
    name === 'kills'
      ? await soakKills({ rounds, seed, say })
      : await soakMixed({ minutes, seed, say })
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else for (const [key, value] of Object.entries(result)) say(`${key}: ${JSON.stringify(value)}`)
  return result.problems.length === 0 ? 0 : 1
}

interface CommandLine {
  name: 'mixed' | 'kills'
  minutes: number
  rounds: number
  seed: number
  json: boolean
}

function readCommandLine(args: readonly string[]): CommandLine {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        minutes: { type: 'string', default: '60' },
        rounds: { type: 'string', default: '200' },
        seed: { type: 'string' },
        json: { type: 'boolean' },
      },
    })
    const [name = 'mixed', ...rest] = positionals
    if (rest.length > 0) throw new Error(`one soak at a time: "${name}" or "${rest[0]}"`)
    if (name !== 'mixed' && name !== 'kills') throw new Error(`no soak is called "${name}"`)
    const minutes = Number(values.minutes)
    if (!(minutes > 0 && minutes <= minutesMax)) throw new Error('--minutes needs a number above 0')
    const rounds = Number(values.rounds)
    if (!(Number.isInteger(rounds) && rounds > 0 && rounds <= roundsMax)) {
      throw new Error('--rounds needs a whole number above 0')
    }
    const seed = values.seed === undefined ? Date.now() % 2 ** 32 : Number(values.seed)
    if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)) {
      throw new Error('--seed needs a whole number below 2^32')
    }
    return { name, minutes, rounds, seed, json: values.json === true }
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error))
  }
}

function usage(message: string): HearthError {
  return new HearthError('invalid-input', message, {
    hint: 'npm run soak -- mixed [--minutes N] [--seed S] [--json], or kills [--rounds N] [--seed S] [--json]',
  })
}
