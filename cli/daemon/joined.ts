/** What a node remembers of the coordinator it joined, so that its next start needs no flags. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HearthError, hasErrno, toHearthError } from '../../core/errors.ts'
import { refuseNewer, writeFileDurably } from '../../core/format-version.ts'

export interface JoinedCoordinator {
  readonly address: string
  readonly caPem: string
}

const version = 1
const schema = z.object({ version: z.int(), address: z.string(), caPem: z.string() })

/** @throws HearthError `corrupt`, `version` */
export async function readJoined(dataFolder: string): Promise<JoinedCoordinator | undefined> {
  const file = joinedFile(dataFolder)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw toHearthError(error, `read ${file}`)
  }
  const parsed = schema.safeParse(parseJson(text))
  if (!parsed.success) {
    throw new HearthError('corrupt', `${file} does not name a coordinator`, {
      hint: 'delete it, and join again with --join, --token and --ca',
    })
  }
  refuseNewer(file, parsed.data.version, version)
  return parsed.data
}

export async function writeJoined(dataFolder: string, joined: JoinedCoordinator): Promise<void> {
  const { address, caPem } = joined
  await writeFileDurably(joinedFile(dataFolder), JSON.stringify({ version, address, caPem }))
}

function joinedFile(dataFolder: string): string {
  return path.join(dataFolder, 'joined.json')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
