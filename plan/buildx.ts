/**
 * Asks a BuildKit for a build's operations by way of buildx, with the user's own flags, so that arguments,
 * targets, contexts, `.dockerignore`, syntax directives and credentials mean what they will mean in the build.
 * Nothing is built. Takes 50 to 150 ms.
 *
 * The frontend answers for its builder's own platform, whatever `--platform` says
 * (frontend/dockerfile/builder of BuildKit 0.34.2 gives the request no target platform): ask a builder of each.
 */
import { execFile } from 'node:child_process'
import { HearthError } from '../core/errors.ts'
import { graphOfJson } from './convert-json.ts'
import type { BuildGraph } from './graph.ts'

export interface BuildxCommand {
  readonly program: string
  readonly env: NodeJS.ProcessEnv
  /** What relative paths are relative to. */
  readonly folder: string
}

export type OperationsAnswer =
  | { readonly type: 'graph'; readonly graph: BuildGraph }
  /** The build may work all the same: an old frontend, an image that is only in the builder's reach. */
  | { readonly type: 'unanswered'; readonly message: string }

/** A base image may have to be looked up in a registry that is far or slow. */
const answerWithinMs = 30_000
const outputBytesMax = 64 * 1024 * 1024

/**
 * @param request.flags of `buildx build`, as `planFlags` leaves them, `--builder` included where one is wanted.
 * @throws HearthError `cancelled`
 */
export async function askOperations(
  buildx: BuildxCommand,
  request: { readonly flags: readonly string[]; readonly context: string },
  options: { signal: AbortSignal },
): Promise<OperationsAnswer> {
  const call = ['--call', 'convertllb,format=json', '--progress', 'quiet']
  const args = ['build', ...request.flags, ...call, '--', request.context]
  const output = await runBuildx(buildx, args, options)
  if (output.exitCode !== 0) return { type: 'unanswered', message: lastWords(output.stderr) }
  try {
    return { type: 'graph', graph: graphOfJson(output.stdout) }
  } catch (error) {
    if (!(error instanceof HearthError)) throw error
    return { type: 'unanswered', message: error.message }
  }
}

/** Flags that say what happens with the result or how progress is shown. */
const flagsLeftOut = new Set([
  ...['annotation', 'attest', 'builder', 'cache-from', 'cache-to', 'call', 'check', 'debug'],
  ...['iidfile', 'load', 'metadata-file', 'output', 'print', 'progress', 'provenance', 'push'],
  ...['quiet', 'sbom', 'tag'],
])

/** The flags that decide what the operations are. Names without dashes. */
export function planFlags(
  flags: readonly { readonly name: string; readonly value: string | undefined }[],
): string[] {
  return flags
    .filter(({ name }) => !flagsLeftOut.has(name))
    .map(({ name, value }) => (value === undefined ? `--${name}` : `--${name}=${value}`))
}

/** The folders that a build's contexts name, by the names that its operations have for them. */
export function contextFolders(
  flags: readonly { readonly name: string; readonly value: string | undefined }[],
  context: string,
  resolve: (text: string) => string | undefined,
): Record<string, string> {
  const named = flags.flatMap(({ name, value }): [string, string][] => {
    if (name !== 'build-context' || value === undefined) return []
    const equals = value.indexOf('=')
    const contextName = value.slice(0, equals)
    // Two names are taken (build/opt.go of buildx).
    const own = ['context', 'dockerfile'].includes(contextName) ? `_${contextName}` : contextName
    return [[own, value.slice(equals + 1)]]
  })
  return Object.fromEntries(
    [['context', context], ...named].flatMap(([name, text]) => {
      const folder = resolve(text ?? '')
      return folder === undefined || name === undefined ? [] : [[name, folder]]
    }),
  )
}

/** buildx's own error line, without its prefix. */
export function lastWords(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  const error = lines.findLast((line) => line.startsWith('ERROR: ')) ?? lines.at(-1)
  return error?.replace(/^ERROR: /, '') ?? 'buildx ended without a word'
}

/** @throws HearthError `cancelled`. A failure is a result. */
export function runBuildx(
  buildx: BuildxCommand,
  args: readonly string[],
  { signal }: { signal: AbortSignal },
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      buildx.program,
      args,
      {
        env: buildx.env,
        cwd: buildx.folder,
        encoding: 'utf8',
        maxBuffer: outputBytesMax,
        timeout: answerWithinMs,
        signal,
      },
      (error, stdout, stderr) => {
        if (signal.aborted) {
          reject(new HearthError('cancelled', 'planning was cancelled', { cause: signal.reason }))
        } else if (error === null) resolve({ exitCode: 0, stdout, stderr })
        else {
          const late = child.killed ? `buildx gave no answer in ${answerWithinMs / 1000} s` : ''
          const words = late || stderr || error.message
          resolve({ exitCode: 1, stdout, stderr: words })
        }
      },
    )
    child.stdin?.end()
  })
}
