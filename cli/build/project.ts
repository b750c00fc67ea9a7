/** Which project a build belongs to. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { findText, type Layers, type Origin } from '../../core/config.ts'
import { type ConfigFile, readConfigFile } from '../../core/config-file.ts'
import { HearthError } from '../../core/errors.ts'
import { refuseNewer } from '../../core/format-version.ts'
import { parseName } from '../../core/scope.ts'
import { settings } from '../settings.ts'
import { withoutCredentials } from './history-command.ts'

/** The file that a repository names its project in. */
export const projectFileName = 'hearth.json'

const projectFileVersion = 1
const projectFileKeys = ['project', 'version'] as const

/**
 * Looks for hearth.json in the folder and upwards.
 * @throws HearthError `invalid-input` naming file and line, `version` when it is from a newer Hearth.
 */
export async function readProjectFile(folder: string): Promise<ConfigFile | undefined> {
  for (const parent of upwards(folder)) {
    const file = await readConfigFile(path.join(parent, projectFileName), projectFileKeys)
    if (file === undefined) continue
    const version = file.values.get('version')
    if (version === undefined) return file
    if (typeof version === 'number' && Number.isInteger(version)) {
      refuseNewer(file.path, version, projectFileVersion)
      return file
    }
    const line = await file.lineOf('version')
    throw new HearthError('invalid-input', `${file.path}:${line}: "version" is no whole number`, {
      hint: `write "version": ${projectFileVersion}, or leave it out`,
    })
  }
  return undefined
}

/**
 * From flag, environment, hearth.json; else named after the git remote, else after the folder.
 * @param context the folder or URL that is built.
 * @throws HearthError `invalid-input` when there is no usable name.
 */
export async function findProject(
  layers: Layers,
  context: string,
): Promise<{ project: string; origin: Origin }> {
  const named = await findText(settings.project, layers)
  if (named !== undefined) return { project: await checkName(named), origin: named.origin }
  const derived = await deriveName(context)
  if (derived.project !== undefined) {
    return { project: derived.project, origin: { type: 'default', reason: derived.reason } }
  }
  throw new HearthError('invalid-input', `no project name can be made from ${derived.reason}`, {
    hint: 'name the project with --project, or in hearth.json as { "project": "my-app" }',
  })
}

async function checkName(named: { value: string; origin: Origin }): Promise<string> {
  try {
    return parseName('project', named.value)
  } catch (error) {
    if (named.origin.type !== 'file' || !(error instanceof HearthError)) throw error
    const { path: file, lineOf } = named.origin.file
    throw new HearthError('invalid-input', `${file}:${await lineOf('project')}: ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    })
  }
}

/** What the project is called when nobody says it; undefined when no name can be made of what is there. */
export async function deriveName(
  context: string,
): Promise<{ project: string | undefined; reason: string }> {
  if (isUrl(context)) {
    const url = withoutCredentials(context).replace(/#.*/, '')
    return { project: normalizeName(lastPart(url)), reason: `the address ${url}` }
  }
  for (const folder of upwards(context)) {
    const config = await readGitConfig(folder)
    if (config === undefined) continue
    const remote = remoteUrl(config)
    const project = remote === undefined ? undefined : normalizeName(lastPart(remote))
    if (project !== undefined) return { project, reason: 'the git remote' }
    return { project: normalizeName(path.basename(folder)), reason: `the folder ${folder}` }
  }
  return { project: normalizeName(path.basename(context)), reason: `the folder ${context}` }
}

/** Makes any name a legal one, or undefined when nothing of it is left. */
export function normalizeName(name: string): string | undefined {
  const legal = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 39)
    .replace(/-+$/, '')
  return legal === '' ? undefined : legal
}

/** A repository URL, "host:path" form included, down to its last name. */
function lastPart(url: string): string {
  return (url.replace(/\/+$/, '').split(/[/:]/).at(-1) ?? '').replace(/\.git$/, '')
}

/** The config of the repository whose root this folder is. Git itself would take 5 ms and may be missing. */
async function readGitConfig(folder: string): Promise<string | undefined> {
  const git = path.join(folder, '.git')
  const config = await readText(path.join(git, 'config'))
  if (config !== undefined) return config
  // In a worktree or submodule `.git` is a file that names the folder; a worktree's names the common one.
  const pointer = /^gitdir: (.+)$/m.exec((await readText(git)) ?? '')?.[1]
  if (pointer === undefined) return undefined
  const gitFolder = path.resolve(folder, pointer.trim())
  const common = (await readText(path.join(gitFolder, 'commondir')))?.trim() ?? '.'
  return (await readText(path.resolve(gitFolder, common, 'config'))) ?? ''
}

/** The URL of "origin", else of the first remote. */
function remoteUrl(config: string): string | undefined {
  const remotes = [...config.matchAll(/^\[remote "([^"]*)"\]([^[]*)/gm)]
  const chosen = remotes.find((remote) => remote[1] === 'origin') ?? remotes[0]
  return /^\s*url\s*=\s*(\S+)/m.exec(chosen?.[2] ?? '')?.[1]
}

export function isUrl(context: string): boolean {
  return /^([a-z][a-z0-9+.-]*:\/\/|git@|github\.com\/)/i.test(context)
}

function* upwards(folder: string): Generator<string> {
  let current = path.resolve(folder)
  while (true) {
    yield current
    const parent = path.dirname(current)
    if (parent === current) return
    current = parent
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    // Whatever keeps it from being read, it cannot name the project.
    return undefined
  }
}
