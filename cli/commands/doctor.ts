/** `hearth doctor`: what is missing or wrong on this machine, and the fix. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { packageFolder } from '../../core/package-folder.ts'
import { type CheckResult, runChecks } from '../doctor/check.ts'
import { clientChecks } from '../doctor/client-checks.ts'
import { nodeChecks } from '../doctor/node-checks.ts'
import { exitCodes } from '../exit-codes.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { catchInterrupts } from '../interrupt.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'

interface Flags extends CommonFlags {
  fix?: boolean
  client?: boolean
}

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('doctor', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Checks what Hearth needs on this machine, and says how to get it.')
        .option('--fix', 'install and build what is missing, then check again')
        .option('--client', 'only what building from here needs, not what a node needs')
        .action((flags: Flags) => run(examine(terminal, flags)))
    }),
}

async function examine(terminal: Terminal, flags: Flags): Promise<number> {
  using interrupt = catchInterrupts()
  const { signal } = interrupt
  if (flags.fix === true) await runSetup(terminal, signal)
  const checks = [
    ...clientChecks(terminal, flags.data),
    ...(flags.client === true ? [] : nodeChecks(terminal, flags.data)),
  ]
  const results = await runChecks(checks, { signal })
  const healthy = results.every((result) => result.state !== 'problem')
  answer(terminal, { json: flags.json === true }, { healthy, checks: results }, [
    ...results.flatMap(describe),
    '',
    verdict(results),
  ])
  return healthy ? exitCodes.ok : exitCodes.environment
}

function describe(result: CheckResult): string[] {
  const marks = { ok: 'ok  ', warning: 'warn', problem: 'FAIL' }
  const first = `${marks[result.state]}  ${result.name.padEnd(15)}  ${result.found}`
  return result.state === 'ok' ? [first] : [first, `      fix: ${result.fix}`]
}

function verdict(results: readonly CheckResult[]): string {
  const problems = results.filter((result) => result.state === 'problem')
  if (problems.length === 0) return 'Nothing is missing.'
  const forNode = problems.every((result) => result.needed === 'node')
  const count = problems.length === 1 ? 'One problem' : `${problems.length} problems`
  return forNode
    ? `${count}: this machine cannot be a builder node yet. Building from here does not need that.`
    : `${count}: builds from here will not work yet.`
}

/** The package's own set-up, its words passed on to standard error. @throws HearthError `environment` */
async function runSetup(terminal: Terminal, signal: AbortSignal): Promise<void> {
  const script = path.join(packageFolder(), 'tools', 'setup.sh')
  const child = spawn('bash', [script, 'runtime'], {
    env: terminal.env,
    stdio: ['ignore', 2, 'inherit'],
    signal,
  })
  let code: number | null
  try {
    ;[code] = await once(child, 'close')
  } catch (error) {
    throw toHearthError(error, `run ${script}`)
  }
  if (code === 0) return
  throw new HearthError('environment', 'the set-up did not finish', {
    hint: 'its last lines above say what is missing',
  })
}
