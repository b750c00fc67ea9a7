/** What a result was measured on and with. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import os from 'node:os'
import { promisify } from 'node:util'
import { findProgram } from '../core/programs.ts'
import type { Machine, Versions } from './index.ts'
import { rounded } from './statistics.ts'

const run = promisify(execFile)

export function describeMachine(): Machine {
  return {
    platform: `${os.platform()}/${os.arch()}`,
    kernel: os.release(),
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    loadBefore: rounded(os.loadavg()[0] ?? 0, 2),
  }
}

/** Undefined when the machine has its cores for the measurement. */
export function busyWarning(machine: Machine): string | undefined {
  const { cores, loadBefore } = machine
  if (loadBefore < cores / 2) return undefined
  return `this machine is busy (load ${loadBefore} on ${cores} cores): expect noise`
}

export async function readVersions(): Promise<Versions> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return {
    hearth: (JSON.parse(text) as { version: string }).version,
    node: process.version,
    buildkitd: await versionOf(await findProgram('buildkitd'), '--version'),
    buildx: await versionOf(await findProgram('buildx'), 'version'),
  }
}

/** Both say `name path vVERSION revision`. */
async function versionOf(program: string, flag: string): Promise<string> {
  const { stdout } = await run(program, [flag])
  return /\bv\d[^\s]*/.exec(stdout)?.[0] ?? stdout.trim()
}
