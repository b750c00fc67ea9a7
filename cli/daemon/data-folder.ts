/** The data folder of `hearth up`, made or checked before anything starts in it. */
import { constants } from 'node:fs'
import { access, mkdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { claimDataFolder } from '../../core/format-version.ts'

export interface DataFolder {
  readonly folder: string
  readonly coordinator: string
  readonly node: string
  readonly log: string
}

export function dataFolderLayout(folder: string): DataFolder {
  return {
    folder,
    coordinator: path.join(folder, 'coordinator'),
    node: path.join(folder, 'node'),
    log: path.join(folder, 'hearth.log'),
  }
}

/**
 * @throws HearthError `environment` when it belongs to somebody else or cannot be written, `version` when a
 *   newer Hearth made it, `invalid-input` when it is no folder of this kind.
 */
export async function prepareDataFolder(folder: string): Promise<DataFolder> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw toHearthError(error, `make the data folder ${folder}`)
  }
  const problem = await dataFolderProblem(folder)
  if (problem !== undefined) {
    throw new HearthError('environment', problem, {
      hint: 'run as its owner, or name another folder with --data or HEARTH_DATA',
    })
  }
  await claimDataFolder(folder, 'installation')
  return dataFolderLayout(folder)
}

/** What keeps this process from using an existing folder; undefined when nothing does. */
export async function dataFolderProblem(folder: string): Promise<string | undefined> {
  const found = await stat(folder)
  if (!found.isDirectory()) return `${folder} is a file, not a folder`
  const own = process.getuid?.()
  if (own !== undefined && found.uid !== own) {
    return `the data folder ${folder} belongs to user ${found.uid}, not to you (${own})`
  }
  try {
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch {
    return `the data folder ${folder} cannot be written`
  }
  return undefined
}
