/** Opens the coordinator's LMDB environment. */
import path from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { refuseNewer } from '../../core/format-version.ts'
import { createBuildHistory, type HistoryLimits } from './build-history.ts'
import type { State } from './index.ts'
import { expelledRecord, nodeRecord, projectRecord, tokenRecord } from './records.ts'
import { createStepDurations } from './step-durations.ts'
import { createTable, rememberTable } from './table.ts'

/** Raised by a change that an older Hearth would misread. */
const tableVersions = {
  projects: 1,
  tokens: 1,
  nodes: 1,
  expelled: 1,
  builds: 1,
  solves: 1,
  steps: 1,
}

export interface StateOptions {
  /** The coordinator's data folder, already claimed and locked. */
  folder: string
  history: HistoryLimits
}

/** @throws HearthError `version`, `corrupt`, or what the folder's errno means. */
export function openState(options: StateOptions): State {
  const root = openEnvironment(path.join(options.folder, 'state'))
  try {
    checkVersions(root)
    const table = (name: string) => root.openDB<unknown, string>({ name })
    // Every route looks at all nodes, which are up to a thousand.
    const nodes = rememberTable(createTable(table('nodes'), 'nodes', nodeRecord))
    return {
      projects: createTable(table('projects'), 'projects', projectRecord),
      tokens: createTable(table('tokens'), 'tokens', tokenRecord),
      nodes,
      expelled: createTable(table('expelled'), 'expelled', expelledRecord),
      builds: createBuildHistory(root, options.history),
      steps: createStepDurations(root),
      write(change) {
        try {
          return root.transactionSync(change)
        } catch (error) {
          nodes.forget()
          throw error
        }
      },
      [Symbol.asyncDispose]: () => root.close(),
    }
  } catch (error) {
    root.close().catch(() => {})
    throw error
  }
}

function openEnvironment(folder: string): RootDatabase<unknown, string> {
  try {
    // Without overlapping syncs a synchronous transaction returns only after fdatasync and a synced write
    // of the meta page. (Asynchronous transaction callbacks never ran with lmdb 3.5.6 on Node 24.)
    return open({ path: folder, overlappingSync: false, maxDbs: 16 })
  } catch (error) {
    const known = toHearthError(error, `open the coordinator's state in ${folder}`)
    if (known.code !== 'internal') throw known
    throw new HearthError('corrupt', known.message, {
      cause: error,
      hint: 'restore the data folder from a copy, or start with an empty one',
    })
  }
}

function checkVersions(root: RootDatabase<unknown, string>): void {
  const versions = root.openDB<number, string>({ name: 'versions' })
  for (const [name, known] of Object.entries(tableVersions)) {
    const found = versions.get(name)
    if (found === undefined) versions.putSync(name, known)
    else refuseNewer(`the coordinator's table "${name}"`, found, known)
  }
}
