/** Opens peer and direct road over one folder, each on the port of the last time where it is free. */
import os from 'node:os'
import path from 'node:path'
import { formatAddress, type TlsIdentity } from '../../core/grpc-server.ts'
import type { Logger } from '../../core/log.ts'
import { formatMeshAddress, parseMeshAddress } from '../../mesh/addresses.ts'
import { dropFormerMembers, setDamageAside } from '../../mesh/earlier-life.ts'
import { createExchange } from '../../mesh/exchange/index.ts'
import {
  createMembershipVerifier,
  type MembershipVerifier,
  openMesh,
  type PeerIdentity,
  type RelayOptions,
} from '../../mesh/index.ts'
import { startOnLastPort } from '../../mesh/last-port.ts'
import type { CacheStore } from '../cache-store/index.ts'
import type { FurtherAdverts, PeerEnrolment, Peering } from './index.ts'
import { createOwnAdverts } from './own-adverts.ts'

export interface PeeringOptions {
  /** Of its own; the peer's key lies there too. */
  folder: string
  /** Of the peer; the direct road has the next port. Port 0: those of the last time, else any that are free. */
  listen: { host: string; port: number }
  enrolment: PeerEnrolment
  /** The node's certificate and key. */
  identity: TlsIdentity
  /** When and how a large mesh relays. Default: mesh/limits.ts. */
  relay?: RelayOptions
}

/** @throws HearthError `environment` when it cannot listen, `forbidden` when the membership is not this peer's. */
export async function openPeering(
  deps: {
    identity: PeerIdentity
    store: Pick<CacheStore, 'blobs' | 'watch' | 'fileOf'>
    further?: FurtherAdverts
    log: Logger
  },
  options: PeeringOptions,
): Promise<Peering> {
  const { identity, store, further, log } = deps
  const { folder, listen } = options
  const { host } = listen
  const membershipKeys = [options.enrolment.membershipKey]
  let verifier = createMembershipVerifier({ publicKeys: membershipKeys })
  const present: MembershipVerifier = {
    verify: (signed, peerId) => verifier.verify(signed, peerId),
    endsAtMs: (membership) => verifier.endsAtMs(membership),
  }

  await using stack = new AsyncDisposableStack()
  await setDamageAside(folder, log)
  const mesh = stack.use(
    await startOnLastPort(
      path.join(folder, 'port'),
      listen.port,
      (port) =>
        openMesh(
          { identity, verifier: present, log },
          {
            folder,
            advertises: true,
            listen: [formatMeshAddress({ host, port })],
            membership: options.enrolment.membership,
            ...(options.relay === undefined ? {} : { relay: options.relay }),
          },
        ),
      (opened) => portOf(opened.host.addresses()),
    ),
  )
  dropFormerMembers(mesh)
  if (mesh.adverts === undefined) throw new Error('a node advertises')
  const adverts = stack.use(createOwnAdverts({ store, adverts: mesh.adverts, further, log }))
  const exchange = stack.use(
    await startOnLastPort(
      path.join(folder, 'bulk-port'),
      listen.port === 0 ? 0 : listen.port + 1,
      (port) =>
        createExchange(
          { blobs: { find: store.fileOf }, streams: mesh.host, log },
          { host, port, identity: options.identity },
        ),
      (started) => started.port,
    ),
  )

  /** Who may ask for blobs: an exchange knows nodes, the mesh knows peers. */
  function admitMembers(): void {
    const nodes = mesh.host.members().filter(({ membership }) => membership.roles.includes('node'))
    exchange.setMembers(nodes.map(({ membership }) => membership.nodeId))
  }
  stack.use(mesh.host.onMember(() => queueMicrotask(admitMembers)))
  stack.use(mesh.host.onPeer(({ type }) => type === 'expelled' && queueMicrotask(admitMembers)))
  admitMembers()

  const reachableHost = ['0.0.0.0', '::'].includes(host) ? os.hostname() : host
  const port = portOf(mesh.host.addresses())
  const owned = stack.move()
  return {
    mesh,
    exchange,
    adverts,
    addresses: {
      mesh: [formatMeshAddress({ host: reachableHost, port })],
      bulk: formatAddress(reachableHost, exchange.port),
    },
    enrolled({ membership, membershipKey }, roster) {
      if (!membershipKeys.some((key) => Buffer.compare(key, membershipKey) === 0)) {
        log.warn('the coordinator signs memberships with another key than before')
        membershipKeys.push(membershipKey)
        verifier = createMembershipVerifier({ publicKeys: membershipKeys })
      }
      mesh.host.renew(membership)
      const { learned } = mesh.host.learn(roster)
      log.info({ members: learned }, 'enrolled in the mesh')
    },
    setExpelled(peerIds) {
      mesh.host.setExpelled(peerIds)
    },
    replaceIdentity: (renewed) => exchange.replaceIdentity(renewed),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function portOf(addresses: readonly string[]): number {
  return parseMeshAddress(addresses[0] ?? '')?.port ?? 0
}
