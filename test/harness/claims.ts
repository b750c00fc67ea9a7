/** What the Hearths of a data folder have claimed of this machine, as their records say. */
import { readdir, readFile, realpath } from 'node:fs/promises'
import path from 'node:path'

/** Where all Hearths of a machine meet (node/buildkit-runner/daemon/machine-claims.ts). */
export const claimsFolder = '/run/hearth/pools'

export interface Claims {
  /** Of the record, `ID.json`, and of the folder beside it with the sockets. */
  id: string
  /** With BuildKit's states. */
  folder: string
  ownerPid: number
  daemons: ClaimedDaemon[]
}

export interface ClaimedDaemon {
  /** For example "app/main". */
  scope: string
  bridge: string
  /** The first process of the daemon; absent while it is being started. */
  pid: number | undefined
  /** Everything by which the daemon could be found on the machine: names of links, and its addresses. */
  names: string[]
}

interface ClaimRecord {
  owner: { pid: number }
  folder: string
  daemons: Record<string, { bridge: string; process?: { pid: number } }>
}

/** Those of the living, and of the dead that nobody has swept yet. */
export async function claimsOf(dataFolder: string): Promise<Claims[]> {
  // It may be gone by now, and its claims not.
  const data = await realpath(dataFolder).catch(() => dataFolder)
  const found: Claims[] = []
  for (const name of await readdir(claimsFolder).catch(() => [])) {
    if (!name.endsWith('.json')) continue
    const text = await readFile(path.join(claimsFolder, name), 'utf8').catch(() => undefined)
    if (text === undefined) continue
    const record = JSON.parse(text) as ClaimRecord
    if (!record.folder.startsWith(`${data}${path.sep}`)) continue
    found.push({
      id: name.slice(0, -'.json'.length),
      folder: record.folder,
      ownerPid: record.owner.pid,
      daemons: Object.entries(record.daemons).map(([scope, daemon]) => ({
        scope,
        bridge: daemon.bridge,
        pid: daemon.process?.pid,
        names: namesIn(daemon),
      })),
    })
  }
  return found
}

/** Links are called `hth…`; of a subnet, what all its addresses begin with. */
function namesIn(value: unknown): string[] {
  if (typeof value === 'string') {
    const subnet = /^(\d+\.\d+\.\d+\.)\d+\/\d+$/.exec(value)?.[1]
    if (subnet !== undefined) return [subnet]
    return value.startsWith('hth') ? [value] : []
  }
  if (typeof value !== 'object' || value === null) return []
  return [...new Set(Object.values(value).flatMap(namesIn))]
}
