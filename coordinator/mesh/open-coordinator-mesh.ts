/** Opens the coordinator's own peer, listening beside its gRPC port, and signs memberships with its key. */
import os from 'node:os'
import path from 'node:path'
import type { Logger } from '../../core/log.ts'
import { formatMeshAddress, parseMeshAddress } from '../../mesh/addresses.ts'
import { dropFormerMembers, setDamageAside } from '../../mesh/earlier-life.ts'
import {
  createMembershipVerifier,
  hubRole,
  openMembershipAuthority,
  openMesh,
  openPeerIdentity,
  type RelayOptions,
  renewAfterMs,
  type SignedMembership,
} from '../../mesh/index.ts'
import { startOnLastPort } from '../../mesh/last-port.ts'
import { clockSlackMs, membershipMs } from '../../mesh/limits.ts'
import type { State } from '../state/index.ts'
import { createHubOffice } from './hub-office.ts'
import type { CoordinatorMesh } from './index.ts'
import { createPeerRoll } from './peer-roll.ts'

export interface CoordinatorMeshOptions {
  /** The coordinator's data folder. */
  folder: string
  /** Port 0: the one of the last time, else any free one. */
  listen: { host: string; port: number }
  now: () => number
  relay?: RelayOptions
}

/** No node can be called so: ids have no dash. */
const ownNodeId = 'the-coordinator'

/** @throws HearthError `environment` when it cannot listen, `corrupt` when a key's file holds something else. */
export async function openCoordinatorMesh(
  deps: { state: State; log: Logger },
  options: CoordinatorMeshOptions,
): Promise<CoordinatorMesh> {
  const { state, log } = deps
  const { folder, listen, now } = options
  const inFolder = (name: string): string => path.join(folder, 'mesh', name)
  const authority = await openMembershipAuthority({ folder, now })
  const identity = await openPeerIdentity(inFolder('peer.pem'))
  const { peerId } = identity
  const verifier = createMembershipVerifier({ publicKeys: [authority.publicKey], now })
  const roll = createPeerRoll({ state }, { now })

  let ownAddresses: string[] = []
  const signOwn = (): SignedMembership =>
    authority.issue({
      peerId,
      nodeId: ownNodeId,
      roles: ['coordinator'],
      addresses: ownAddresses,
      bulkAddress: '',
    })

  await using stack = new AsyncDisposableStack()
  await setDamageAside(path.join(folder, 'mesh'), log)
  const mesh = stack.use(
    await startOnLastPort(
      inFolder('port'),
      listen.port,
      (port) =>
        openMesh(
          { identity, verifier, log },
          {
            folder: path.join(folder, 'mesh'),
            advertises: false,
            listen: [formatMeshAddress({ host: listen.host, port })],
            membership: signOwn(),
            now,
            ...(options.relay === undefined ? {} : { relay: options.relay }),
          },
        ),
      ({ host }) => parseMeshAddress(host.addresses()[0] ?? '')?.port ?? 0,
    ),
  )
  dropFormerMembers(mesh)
  const host = ['0.0.0.0', '::'].includes(listen.host) ? os.hostname() : listen.host
  const { port = 0 } = parseMeshAddress(mesh.host.addresses()[0] ?? '') ?? {}
  ownAddresses = [formatMeshAddress({ host, port })]
  let own = signOwn()
  mesh.host.renew(own)
  const verdict = verifier.verify(own, peerId)
  const renewMs = verdict.type === 'valid' ? renewAfterMs(verdict.membership) : membershipMs / 3
  const renewing = setInterval(() => {
    own = signOwn()
    mesh.host.renew(own)
  }, renewMs)
  stack.defer(() => clearInterval(renewing))

  const expelled = (): string[] => roll.expelledSince(membershipMs + 2 * clockSlackMs)
  mesh.host.setExpelled(expelled())
  // Its roster may have been lost; what was signed holds all the same.
  mesh.host.learn(state.nodes.list().flatMap(({ membership }) => membership ?? []))
  const { isPresent } = mesh.relay
  const { fullMeshMax } = options.relay ?? {}
  const hubs = stack.use(
    createHubOffice(
      { host: mesh.host, state, authority, isPresent, log },
      fullMeshMax === undefined ? {} : { fullMeshMax },
    ),
  )
  log.info({ peer: peerId, address: ownAddresses[0] }, 'the coordinator is in the mesh')

  const owned = stack.move()
  return {
    mesh,
    expelled,
    requireNotRemoved: roll.requireNotRemoved,
    enrol({ withToken, meshAddresses, ...peer }) {
      roll.assign({ nodeId: peer.nodeId, peerId: peer.peerId, withToken })
      const membership = authority.issue({
        peerId: peer.peerId,
        nodeId: peer.nodeId,
        roles: ['node', peer.platform, ...(hubs.isHub(peer.peerId) ? [hubRole] : [])],
        addresses: meshAddresses,
        bulkAddress: peer.bulkAddress,
        otherAddresses: peer.otherAddresses,
      })
      mesh.host.setExpelled(expelled())
      mesh.host.learn([membership])
      const others = mesh.host
        .members()
        .filter(({ membership }) => membership.peerId !== peer.peerId)
        .flatMap(({ membership }) => mesh.host.membershipOf(membership.peerId) ?? [])
      return { membership, membershipKey: authority.publicKey, roster: [own, ...others] }
    },
    remove(nodeId) {
      const node = roll.remove(nodeId)
      mesh.host.setExpelled(expelled())
      log.warn({ node: nodeId, peer: node.peerId }, 'a node was removed')
      return node
    },
    newsFor: hubs.newsFor,
    isPresent,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
