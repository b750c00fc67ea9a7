/**
 * What stores, logs and indexes say of what a node holds, as lines of text that can be compared. Of what has
 * stopped, it is read from its folders by the rooms' own code.
 */
import path from 'node:path'
import { type Database, open } from 'lmdb'
import { silentLogger } from '../../core/log.ts'
import {
  type DigestIndex,
  type Entry,
  keyOfDigest,
  keyOfStep,
  openAdvertLog,
  openDigestIndex,
  openPeerIdentity,
} from '../../mesh/index.ts'
import { createRecords } from '../../node/buildkit-runner/records/index.ts'
import { type CacheStore, openCacheStore } from '../../node/cache-store/index.ts'

/** One line per key, in the order of keys. */
export type Says = readonly string[]

/** All that a stopped peer's folders say. */
export interface StoppedPeer {
  readonly peerId: string
  /** Empty for a peer that has none. */
  readonly store: Says
  readonly log: Says
  /** What its records say of the results of steps: told as held, or else as hot. */
  readonly steps: Says
  /** What its index says of this peer. */
  index(peerId: string): Says
}

export function storeSays(store: Pick<CacheStore, 'blobs'>): Says {
  return Array.from(store.blobs(), ({ digest, size }) => {
    return lineOf({ key: keyOfDigest(digest), size, heat: 'held' })
  })
}

export function indexSays(index: Pick<DigestIndex, 'entries'>, peerId: string): Says {
  return Array.from(index.entries(peerId), lineOf)
}

/**
 * How far a running peer knows each log, its own included, by publisher.
 * @param mesh its folder.
 */
export async function positionsOf(mesh: string): Promise<Record<string, string>> {
  const folder = path.join(mesh, 'digest-index', 'data')
  const root = open(folder, { readOnly: true, maxDbs: 8 })
  try {
    const nodes: Database<{ epoch: number; sequence: number }, string> = root.openDB('nodes', {
      encoding: 'msgpack',
    })
    const found = Array.from(nodes.getRange(), ({ key, value }) => {
      return [key, `${value.epoch}.${value.sequence}`] as const
    })
    return Object.fromEntries(found)
  } finally {
    await root.close()
  }
}

/** In one line, or none where they agree. */
export function disagreement(what: string, found: Says, wanted: Says): string[] {
  const tooMany = new Set(found).difference(new Set(wanted)).size
  const missing = new Set(wanted).difference(new Set(found)).size
  if (tooMany + missing === 0 && found.length === wanted.length) return []
  return [`${what}: of ${wanted.length}, ${missing} are missing and ${tooMany} too many`]
}

/** @param folders of a peer that is not running. */
export async function readStopped(folders: {
  mesh: string
  store?: string
  records?: string
}): Promise<StoppedPeer> {
  const { peerId, signingKey } = await openPeerIdentity(path.join(folders.mesh, 'peer.pem'))
  await using index = await openDigestIndex({
    folder: path.join(folders.mesh, 'digest-index'),
    log: silentLogger,
  })
  const said = new Map(index.nodes().map(({ node }) => [node, indexSays(index, node)]))
  const indexed = (of: string): Says => said.get(of) ?? []
  if (folders.store === undefined) return { peerId, store: [], log: [], steps: [], index: indexed }
  await using store = await openCacheStore({ folder: folders.store, log: silentLogger })
  await using log = await openAdvertLog({
    folder: path.join(folders.mesh, 'advert-log'),
    publisher: peerId,
    signingKey,
  })
  const logged = log.entriesAfter(undefined, Number.MAX_SAFE_INTEGER).map(lineOf)
  const steps = folders.records === undefined ? [] : await stepsOf(store, folders.records)
  return { peerId, store: storeSays(store), log: logged, steps, index: indexed }
}

/** Of the steps whose layers are all in the store. */
async function stepsOf(store: CacheStore, folder: string): Promise<Says> {
  await using records = await createRecords({ store, log: silentLogger }, { folder })
  return records.scopes().flatMap((scope) =>
    [...records.stepLayers(scope)].flatMap(([step, layers]) => {
      const isHeld = layers.every(({ digest, size }) => store.stat(scope, digest)?.size === size)
      const size = layers.reduce((sum, layer) => sum + layer.size, 0)
      return isHeld ? [lineOf({ key: keyOfStep(scope, step), size, heat: 'held' })] : []
    }),
  )
}

/** Where stopped peers disagree with a stopped node's store, each in a line. */
export function disagreementsOf(nodes: readonly StoppedPeer[], others: readonly StoppedPeer[]) {
  return nodes.flatMap((node) => {
    const cooled = node.log.filter((line) => !line.endsWith(' hot'))
    const isHot = (line: string): boolean => node.log.includes(line.replace(/held$/, 'hot'))
    const held = [...node.store, ...node.steps.filter((line) => !isHot(line))]
    return [
      ...disagreement(`the log of ${node.peerId}`, cooled, held),
      ...[...nodes, ...others].flatMap((peer) =>
        disagreement(
          `what ${peer.peerId} says of ${node.peerId}`,
          peer.index(node.peerId),
          node.log,
        ),
      ),
    ]
  })
}

function lineOf({ key, size, heat }: Entry): string {
  return `${Buffer.from(key).toString('hex')} ${size} ${heat}`
}
