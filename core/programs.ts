/**
 * Where the programs live that Hearth drives. The set-up leaves each in one tools folder, as a link to an
 * installed one that is new enough or as a binary built from tools/go.mod.
 */
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { HearthError } from './errors.ts'

export type Program = 'buildkitd' | 'buildctl' | 'buildx' | 'runc' | 'versitygw' | 'crane'

/** `$HEARTH_TOOLS`, else `hearth/tools/bin` in the user's cache folder. */
export function toolsFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.HEARTH_TOOLS) return env.HEARTH_TOOLS
  const cache = env.XDG_CACHE_HOME || path.join(env.HOME || os.homedir(), '.cache')
  return path.join(cache, 'hearth', 'tools', 'bin')
}

/** Docker keeps its plugins here; buildx is often installed as one and on no PATH. */
function pluginFolders(env: NodeJS.ProcessEnv): string[] {
  const own = path.join(env.DOCKER_CONFIG || path.join(env.HOME || os.homedir(), '.docker'))
  return [
    path.join(own, 'cli-plugins'),
    '/usr/local/lib/docker/cli-plugins',
    '/usr/local/libexec/docker/cli-plugins',
    '/usr/lib/docker/cli-plugins',
    '/usr/libexec/docker/cli-plugins',
  ]
}

/** Finds a program without running it: `$HEARTH_BUILDKITD` (and so on), the tools folder, PATH. */
export async function lookUpProgram(
  program: Program,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string | undefined> {
  const named = env[`HEARTH_${program.toUpperCase()}`]
  if (named) return (await isExecutable(named)) ? named : undefined
  const onPath = [...(env.PATH ?? '').split(path.delimiter), '/usr/sbin', '/sbin']
  const candidates = [toolsFolder(env), ...onPath].map((folder) => path.join(folder, program))
  if (program === 'buildx') {
    candidates.push(...pluginFolders(env).map((folder) => path.join(folder, 'docker-buildx')))
  }
  for (const candidate of candidates) if (await isExecutable(candidate)) return candidate
  return undefined
}

/** @throws HearthError `environment` */
export async function findProgram(
  program: Program,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const found = await lookUpProgram(program, env)
  if (found !== undefined) return found
  throw new HearthError('environment', `${program} is not on this machine`, {
    hint: `run "hearth doctor --fix", or name it in HEARTH_${program.toUpperCase()}`,
  })
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
