/**
 * The mesh: nodes that find each other, tell each other what they hold, and bring it to each other.
 *
 *   membership/    what the coordinator signs so that peers know each other while it is away
 *   host/          the libp2p host among members only
 *   adverts/       each node's signed log of what it holds, told to all
 *   digest-index/  who holds what, as far as the adverts say
 *   relay/         hubs that hand news on where the mesh is too large for everybody to be connected
 *   fragments/     who made which fragment of a cache record, signed and told to all
 *   exchange/      blobs in bulk, by the direct road
 *
 * A node opens it with `openMesh`, says what its store gained and lost through `adverts`, and asks `index` who
 * holds what; `holdersOf` names the peers with the address of their direct road. The coordinator opens it the
 * same way without saying anything of itself.
 */
import type { Digest } from '../core/digest.ts'
import type { AdvertFeeds, Adverts } from './adverts/index.ts'
import type { DigestIndex, Heat, Position } from './digest-index/index.ts'
import type { FragmentNews } from './fragments/index.ts'
import type { Member, MeshHost } from './host/index.ts'
import type { Relay } from './relay/index.ts'

export interface Mesh extends AsyncDisposable {
  readonly host: MeshHost
  readonly index: DigestIndex
  readonly relay: Relay
  /** Undefined for a peer that only listens, as the coordinator does. */
  readonly adverts: Adverts | undefined
  readonly feeds: AdvertFeeds | undefined
  /** Undefined where there are no adverts either. */
  readonly fragments: FragmentNews | undefined
  /** The same of cache mounts' snapshots. */
  readonly mounts: FragmentNews | undefined
  /** Called after the index has taken news of another node. */
  onNews(listener: (publisher: string, position: Position) => void): Disposable
  /** Living members other than this peer that are said to hold the blob, the hot ones first. */
  holdersOf(digest: Digest): Holder[]
}

export interface Holder {
  readonly member: Member
  readonly heat: Heat
  /** In bytes; 0 when nobody said. */
  readonly size: number
}

export * from './adverts/index.ts'
export * from './digest-index/index.ts'
export * from './host/index.ts'
export * from './membership/index.ts'
export { type MeshOptions, openMesh } from './open-mesh.ts'
export * from './relay/index.ts'
