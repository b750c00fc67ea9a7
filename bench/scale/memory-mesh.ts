/** The mesh as a node opens it, over a host of a network in memory: adverts, index and relay are the real ones. */
import type { KeyObject } from 'node:crypto'
import path from 'node:path'
import { silentLogger } from '../../core/log.ts'
import {
  createAdvertFeeds,
  createAdvertIntake,
  createAdverts,
  createNewsDesk,
  openAdvertLog,
} from '../../mesh/adverts/index.ts'
import {
  hubRole,
  type Membership,
  type Mesh,
  openDigestIndex,
  type SignedMembership,
} from '../../mesh/index.ts'
import { createRelay, type RelayOptions, type Ties } from '../../mesh/relay/index.ts'
import type { MemoryNetwork } from './memory-network.ts'

/** What of a mesh is measured. */
export type ScaledMesh = Pick<Mesh, 'host' | 'index' | 'relay' | 'adverts' | 'onNews'> &
  AsyncDisposable

export interface MemoryMeshOptions {
  folder: string
  signed: SignedMembership
  membership: Pick<Membership, 'peerId' | 'roles'>
  signingKey: KeyObject
  /** False: it listens to adverts and says none. */
  advertises: boolean
  relay?: RelayOptions
}

export async function openMemoryMesh(
  network: MemoryNetwork,
  options: MemoryMeshOptions,
): Promise<ScaledMesh> {
  const { folder, signed, membership, signingKey } = options
  const log = silentLogger
  const stack = new AsyncDisposableStack()
  const inFolder = (name: string) => path.join(folder, name)
  const index = stack.use(
    await openDigestIndex({ folder: inFolder('digest-index'), log, mapBytes: mapBytes }),
  )
  const advertLog = options.advertises
    ? stack.use(
        await openAdvertLog({
          ...{ folder: inFolder('advert-log'), publisher: membership.peerId, signingKey },
        }),
      )
    : undefined
  const adverts =
    advertLog === undefined ? undefined : stack.use(await createAdverts({ log: advertLog, index }))
  const ties: Ties = { tieTo: () => 'kept' }
  const host = stack.use(
    network.join({ membership: signed, tieTo: ({ peerId }) => ties.tieTo(peerId) }),
  )
  const desk = createNewsDesk({ host, index })
  const isHub = () => membership.roles.includes(hubRole)
  const relay = stack.use(await createRelay({ host, index, desk, ties, isHub, log }, options.relay))
  stack.use(await createAdvertIntake({ host, index, desk, log }))
  if (advertLog !== undefined) {
    stack.use(await createAdvertFeeds({ host, advertLog, signingKey, log }))
  }
  return {
    ...{ host, index, relay, adverts },
    onNews: (listener) =>
      desk.onApplied(({ publisher, position }) => listener(publisher, position)),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** Address space: a thousand of the usual 16 GiB are more than a process may have. */
const mapBytes = 256 * 1024 * 1024
