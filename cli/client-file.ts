/**
 * `client.json`: how to reach a coordinator. `hearth up` leaves one in its data folder, `hearth login` one in
 * the person's configuration folder. It holds a token, so it is readable by its owner alone.
 */
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, hasErrno, toHearthError } from '../core/errors.ts'
import { refuseNewer, writeFileDurably } from '../core/format-version.ts'
import { configFolder } from './folders.ts'

const clientFileVersion = 1

export interface ClientFile {
  /** "host:port". */
  readonly address: string
  readonly caPem: string
  readonly token: string
}

export function dataClientFile(dataFolder: string): string {
  return path.join(dataFolder, 'client.json')
}

export function loginClientFile(env: NodeJS.ProcessEnv): string {
  return path.join(configFolder(env), 'client.json')
}

/**
 * @returns undefined when there is none.
 * @throws HearthError `corrupt`, `version`, or what kept it from being read.
 */
export async function readClientFile(file: string): Promise<ClientFile | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw toHearthError(error, `read ${file}`)
  }
  const content = parseObject(text)
  const { version, address, caPem, token } = content
  if (typeof version === 'number') refuseNewer(file, version, clientFileVersion)
  if (typeof address === 'string' && typeof caPem === 'string' && typeof token === 'string') {
    return { address, caPem, token }
  }
  throw new HearthError('corrupt', `${file} does not say how to reach a coordinator`, {
    hint: 'delete it, then "hearth up" or "hearth login" writes it anew',
  })
}

export async function writeClientFile(file: string, content: ClientFile): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  const text = JSON.stringify({ version: clientFileVersion, ...content }, undefined, 2)
  await writeFileDurably(file, `${text}\n`, 0o600)
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const content: unknown = JSON.parse(text)
    if (typeof content === 'object' && content !== null) return content as Record<string, unknown>
  } catch {
    // As unusable as a file without the fields.
  }
  return {}
}
