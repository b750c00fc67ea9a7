/** Mistakes that are cheaper and clearer to report before a build is opened than after. */
import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { HearthError } from '../../core/errors.ts'
import { nearest } from '../../core/nearest.ts'
import { allFlags, type BuildCommandLine, unknownFlags, valuesOf } from './command-line.ts'
import { isUrl } from './project.ts'

/** Where a build's context is. */
export type Context =
  | { readonly type: 'folder'; readonly path: string }
  | { readonly type: 'url'; readonly url: string }
  | { readonly type: 'input' }

/**
 * Looks at the context and the Dockerfile of a build. A bake has neither of its own: its files name them.
 * @throws HearthError `invalid-input` or `not-found`
 */
export async function checkContext(line: BuildCommandLine, folder: string): Promise<Context> {
  if (line.verb === 'bake') return { type: 'folder', path: folder }
  const [context, ...more] = line.operands
  if (context === undefined || more.length > 0) {
    const what =
      context === undefined ? 'needs a context' : `takes one context, not ${more.length + 1}`
    throw new HearthError('invalid-input', `build ${what}`, {
      hint: 'name a folder, a git or tar URL, or "-" for standard input: hearth build .',
    })
  }
  const dockerfile = valuesOf(line, 'file').at(-1)
  if (context === '-') return { type: 'input' }
  const contextFolder = path.resolve(folder, context)
  const kind = await kindOf(contextFolder)
  if (kind !== 'folder') {
    if (isUrl(context)) return { type: 'url', url: context }
    const problem = kind === 'file' ? 'is a file, not a folder' : 'does not exist'
    throw new HearthError('not-found', `the context ${contextFolder} ${problem}`, {
      hint: 'name the folder that the Dockerfile copies from',
    })
  }
  if (dockerfile === undefined) await checkDefaultDockerfile(contextFolder)
  else if (dockerfile !== '-' && !isUrl(dockerfile)) {
    await checkDockerfile(path.resolve(folder, dockerfile))
  }
  return { type: 'folder', path: contextFolder }
}

async function checkDefaultDockerfile(contextFolder: string): Promise<void> {
  // buildx takes the lower-case name too (build/opt.go).
  for (const name of ['Dockerfile', 'dockerfile']) {
    if ((await kindOf(path.join(contextFolder, name))) !== 'nothing') return
  }
  throw new HearthError('not-found', `there is no Dockerfile in ${contextFolder}`, {
    hint: 'name it with -f, or name the folder that has it',
  })
}

async function checkDockerfile(file: string): Promise<void> {
  const kind = await kindOf(file)
  if (kind === 'file') return
  const problem = kind === 'folder' ? 'is a folder' : 'does not exist'
  throw new HearthError('not-found', `the Dockerfile ${file} ${problem}`, {
    hint: '-f is relative to the current folder, not to the context',
  })
}

async function kindOf(file: string): Promise<'folder' | 'file' | 'nothing'> {
  try {
    return (await stat(file)).isDirectory() ? 'folder' : 'file'
  } catch {
    return 'nothing'
  }
}

/**
 * A flag that Hearth does not know may be one of a newer buildx, so the buildx at hand is asked.
 * @throws HearthError `invalid-input` naming the nearest flag.
 */
export async function checkFlags(line: BuildCommandLine, buildx: string): Promise<void> {
  const unknown = unknownFlags(line)
  if (unknown.length === 0) return
  const { stdout } = await promisify(execFile)(buildx, [line.verb, '--help'], { encoding: 'utf8' })
  for (const name of unknown) {
    const typed = name.length === 1 ? `-${name}` : `--${name}`
    if (new RegExp(`^\\s*(-\\w, )?${escapePattern(typed)}[,\\s]`, 'm').test(stdout)) continue
    const near = name.length === 1 ? undefined : nearest(name, allFlags(line.verb))
    throw new HearthError('invalid-input', `${line.verb}: unknown flag ${typed}`, {
      hint:
        near === undefined
          ? `"hearth ${line.verb} --help" lists the flags`
          : `did you mean --${near}?`,
    })
  }
}

function escapePattern(text: string): string {
  return text.replaceAll(/[^\w-]/g, '\\$&')
}
