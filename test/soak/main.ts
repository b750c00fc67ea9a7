/** `npm run soak -- mixed [--minutes N] [--json]`: real builds for a long time, and what they leave behind. */
import { parseArgs } from 'node:util'
import { describeError, HearthError } from '../../core/errors.ts'
import { soakMixed } from './mixed.ts'

const minutesMax = 24 * 60

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`soak: ${describeError(error)}\n`)
  process.exitCode = 2
}

async function main(args: readonly string[]): Promise<number> {
  const { name, minutes, json } = readCommandLine(args)
  if (name !== 'mixed') throw usage(`no soak is called "${name}"`)
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`)
  }
  const result = await soakMixed({ minutes, say })
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else for (const [key, value] of Object.entries(result)) say(`${key}: ${JSON.stringify(value)}`)
  return result.problems.length === 0 ? 0 : 1
}

function readCommandLine(args: readonly string[]): {
  name: string
  minutes: number
  json: boolean
} {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { minutes: { type: 'string', default: '60' }, json: { type: 'boolean' } },
    })
    const minutes = Number(values.minutes)
    if (!(minutes > 0 && minutes <= minutesMax)) throw new Error('--minutes needs a number above 0')
    const [name = 'mixed', ...rest] = positionals
    if (rest.length > 0) throw new Error(`one soak at a time: "${name}" or "${rest[0]}"`)
    return { name, minutes, json: values.json === true }
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error))
  }
}

function usage(message: string): HearthError {
  return new HearthError('invalid-input', message, {
    hint: 'npm run soak -- mixed [--minutes N] [--json]',
  })
}
