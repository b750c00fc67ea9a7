/** Who is in the mesh, on disk: the signed memberships as they came, so that they are verified again at each start. */
import { mkdirSync } from 'node:fs'
import { type Database, open } from 'lmdb'
import { toHearthError } from '../../core/errors.ts'
import { refuseNewer } from '../../core/format-version.ts'
import type { SignedMembership } from '../membership/index.ts'

export interface Roster extends AsyncDisposable {
  list(): SignedMembership[]
  get(peerId: string): SignedMembership | undefined
  /** All in one transaction: each waits for the disk, and a large mesh is told of at once. */
  put(memberships: ReadonlyMap<string, SignedMembership>): void
  remove(peerId: string): void
  /** Peers that are no members whatever they show. */
  expelled(): string[]
  setExpelled(peerIds: readonly string[]): void
}

const rosterVersion = 1

/**
 * @param folder holds the roster's LMDB files, nothing else.
 * @throws HearthError `version` when a newer Hearth wrote it.
 */
export function openRoster(folder: string): Roster {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { root, meta, members, expelled } = openTables(folder)
  try {
    refuseNewer(`the roster ${folder}`, meta.get('version') ?? rosterVersion, rosterVersion)
    meta.putSync('version', rosterVersion)
  } catch (error) {
    root.close().catch(() => {})
    throw error
  }
  return {
    list: () => Array.from(members.getRange(), ({ value }) => value),
    get: (peerId) => members.get(peerId),
    put(memberships) {
      root.transactionSync(() => {
        for (const [peerId, signed] of memberships) members.putSync(peerId, Buffer.from(signed))
      })
    },
    remove: (peerId) => void members.removeSync(peerId),
    expelled: () => Array.from(expelled.getKeys()),
    setExpelled(peerIds) {
      const next = new Set(peerIds)
      root.transactionSync(() => {
        for (const peerId of [...expelled.getKeys()]) {
          if (!next.has(peerId)) expelled.removeSync(peerId)
        }
        for (const peerId of next) expelled.putSync(peerId, true)
      })
    },
    [Symbol.asyncDispose]: () => root.close(),
  }
}

function openTables(folder: string) {
  try {
    const root = open(folder, { maxDbs: 4, overlappingSync: false, eventTurnBatching: false })
    const members: Database<Buffer, string> = root.openDB('members', { encoding: 'binary' })
    const meta: Database<number, string> = root.openDB('meta', { encoding: 'msgpack' })
    const expelled: Database<boolean, string> = root.openDB('expelled', { encoding: 'msgpack' })
    return { root, meta, members, expelled }
  } catch (error) {
    throw toHearthError(error, `open the roster in ${folder}`)
  }
}
