/**
 * Puts the rooms of the mesh together over one folder: `peer.pem`, `roster/`, `advert-log/`, `digest-index/`,
 * `fragments/`, `mounts/`.
 */
import path from 'node:path'
import type { Logger } from '../core/log.ts'
import {
  createAdvertFeeds,
  createAdvertIntake,
  createAdverts,
  createNewsDesk,
  openAdvertLog,
} from './adverts/index.ts'
import { hotBit, keyOfDigest, openDigestIndex } from './digest-index/index.ts'
import { createFragmentNews, type FragmentSubject } from './fragments/index.ts'
import {
  createMeshHost,
  type MeshHost,
  type MeshHostOptions,
  openRoster,
  type PeerIdentity,
} from './host/index.ts'
import type { Holder, Mesh } from './index.ts'
import type { MembershipVerifier, SignedMembership } from './membership/index.ts'
import { createRelay, hubRole, type RelayOptions, type Ties } from './relay/index.ts'

export interface MeshOptions extends Omit<MeshHostOptions, 'tieTo'> {
  /** Of its own, in the data folder. */
  folder: string
  /** False: it listens to adverts and says none. */
  advertises: boolean
  relay?: RelayOptions
}

/**
 * @param deps.identity from `openPeerIdentity`, which the coordinator must have heard of before it signs.
 * @throws HearthError as the rooms' own factories do.
 */
export async function openMesh(
  deps: { identity: PeerIdentity; verifier: MembershipVerifier; log: Logger },
  options: MeshOptions,
): Promise<Mesh> {
  const { identity, log } = deps
  const { signingKey, peerId } = identity
  const open = new AsyncDisposableStack()
  const inFolder = (name: string) => path.join(options.folder, name)
  try {
    const roster = open.use(openRoster(inFolder('roster')))
    const index = open.use(await openDigestIndex({ folder: inFolder('digest-index'), log }))
    const advertLog = options.advertises
      ? open.use(
          await openAdvertLog({
            folder: inFolder('advert-log'),
            publisher: peerId,
            signingKey,
            ...(options.now === undefined ? {} : { now: options.now }),
          }),
        )
      : undefined
    const adverts =
      advertLog === undefined ? undefined : open.use(await createAdverts({ log: advertLog, index }))
    const ties: Ties = { tieTo: () => 'kept' }
    const host = open.use(
      await createMeshHost(
        { ...deps, roster },
        { ...options, tieTo: ({ peerId: other }) => ties.tieTo(other) },
      ),
    )
    const desk = createNewsDesk({ host, index })
    const isHub = createOwnRole(hubRole, { host, verifier: deps.verifier })
    const relay = open.use(
      await createRelay({ host, index, desk, ties, isHub, log }, options.relay),
    )
    open.use(await createAdvertIntake({ host, index, desk, log }))
    const feeds =
      advertLog === undefined
        ? undefined
        : open.use(await createAdvertFeeds({ host, advertLog, signingKey, log }))

    const openNews = async (subject: FragmentSubject, folder: string) =>
      options.advertises
        ? open.use(
            await createFragmentNews({ ...deps, host }, { folder: inFolder(folder), subject }),
          )
        : undefined
    const fragments = await openNews('records', 'fragments')
    const mounts = await openNews('mounts', 'mounts')

    return {
      host,
      index,
      relay,
      onNews: (listener) =>
        desk.onApplied(({ publisher, position }) => listener(publisher, position)),
      adverts,
      feeds,
      fragments,
      mounts,
      holdersOf(digest) {
        const [found] = index.holders([keyOfDigest(digest)])
        if (found === undefined) return []
        const holders = Array.from(found.holders, (tag): Holder | undefined => {
          const node = index.nodeOf(tag)
          const member = node === undefined ? undefined : host.member(node)
          if (member === undefined) return undefined
          return { member, size: found.size, heat: (tag & hotBit) === 0 ? 'held' : 'hot' }
        }).filter((holder) => holder !== undefined)
        return holders.sort((a, b) => Number(b.heat === 'hot') - Number(a.heat === 'hot'))
      },
      [Symbol.asyncDispose]: () => open.disposeAsync(),
    }
  } catch (error) {
    await open.disposeAsync()
    throw error
  }
}

/** @returns whether the own membership names the role; asked often, and verified once. */
function createOwnRole(
  role: string,
  { host, verifier }: { host: MeshHost; verifier: MembershipVerifier },
): () => boolean {
  const ask = (signed: SignedMembership) => {
    const verdict = verifier.verify(signed, host.peerId)
    const hasRole = verdict.type === 'valid' && verdict.membership.roles.includes(role)
    return { signed, hasRole }
  }
  let asked = ask(host.membership())
  return () => {
    const signed = host.membership()
    if (asked.signed !== signed) asked = ask(signed)
    return asked.hasRole
  }
}
