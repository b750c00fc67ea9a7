/**
 * JSON files that people write by hand. A mistake is reported with the file and the line it is in, and an
 * unknown key is a mistake: it is most often a known one misspelt.
 *
 * The library that locates mistakes is loaded only once there is one: a build reads such a file on its way
 * to the first step, and must not pay for it.
 */
import { readFile } from 'node:fs/promises'
import { HearthError, hasErrno, toHearthError } from './errors.ts'
import { nearest } from './nearest.ts'

export interface ConfigFile {
  readonly path: string
  readonly values: ReadonlyMap<string, unknown>
  /** Line of a key, from 1. */
  lineOf(key: string): Promise<number | undefined>
}

/**
 * Reads a JSON object whose keys are all among `keys`.
 * @returns undefined when there is no such file.
 * @throws HearthError `invalid-input` naming file and line.
 */
export async function readConfigFile(
  path: string,
  keys: readonly string[],
): Promise<ConfigFile | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw toHearthError(error, `read ${path}`)
  }
  return await parseConfigFile(path, text, keys)
}

/** As readConfigFile, for text that has been read already. */
export async function parseConfigFile(
  path: string,
  text: string,
  keys: readonly string[],
): Promise<ConfigFile> {
  const lineOf = async (key: string) =>
    (await import('./config-file-lines.ts')).lineOfKey(text, key)
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    const mistake = (await import('./config-file-lines.ts')).firstMistake(text)
    throw new HearthError('invalid-input', `${path}:${mistake.line}: ${mistake.problem}`, {
      hint: 'correct the JSON on that line',
      cause,
    })
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new HearthError('invalid-input', `${path}:1: the file holds no JSON object`, {
      hint: `write { "${keys[0]}": … }`,
    })
  }
  const values = new Map(Object.entries(content))
  for (const key of values.keys()) {
    if (keys.includes(key)) continue
    const near = nearest(key, keys)
    throw new HearthError('invalid-input', `${path}:${await lineOf(key)}: unknown key "${key}"`, {
      hint: near === undefined ? `known keys: ${keys.join(', ')}` : `did you mean "${near}"?`,
    })
  }
  return { path, values, lineOf }
}
