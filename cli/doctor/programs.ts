/** Programs on this machine and their versions. */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'

const versionMs = 10_000

/** Where a program is, with the folders that root's PATH has and others' may not. */
export async function findOnPath(
  program: string,
  env: NodeJS.ProcessEnv,
): Promise<string | undefined> {
  const folders = [
    ...(env.PATH ?? '').split(path.delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
  ]
  for (const folder of folders) {
    const candidate = path.join(folder, program)
    if (folder !== '' && (await isExecutable(candidate))) return candidate
  }
  return undefined
}

export async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The first "1.2.3" in what the program prints; undefined when it says none or does not run. */
export async function versionOf(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(program, args, {
      encoding: 'utf8',
      timeout: versionMs,
      signal,
    })
    return /\d+\.\d+\.\d+/.exec(stdout)?.[0]
  } catch {
    return undefined
  }
}

/** Whether a "1.2.3" is at least another. */
export function isAtLeast(version: string, minimum: string): boolean {
  const [left, right] = [version, minimum].map((text) => text.split('.').map(Number))
  for (const [index, wanted] of (right ?? []).entries()) {
    const given = left?.[index] ?? 0
    if (given !== wanted) return given > wanted
  }
  return true
}
