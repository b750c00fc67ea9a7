/**
 * The node for each platform of a build, and why. Pure functions over what is known of the nodes: a build
 * only goes to a node that builds its platform natively, is well and takes new builds, and among those to
 * the one that will begin first.
 */
import type { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'

/** A node as routing sees it. */
export interface Candidate {
  readonly id: string
  readonly name: string
  /** `os/arch` that it builds natively. */
  readonly platform: string
  readonly online: boolean
  readonly load: Pick<NodeLoad, 'slots' | 'slotsUsed' | 'queued' | 'draining'>
}

export interface RouteRequest {
  /** `os/arch[/variant]`, or undefined for whatever platform the nodes have. */
  readonly platform: string | undefined
  /** Where the project was built last: it wins among equals, because its BuildKit is warm. */
  readonly lastNodeId: string | undefined
}

export type RouteDecision =
  | {
      readonly type: 'chosen'
      readonly nodeId: string
      /** Why this one, in one line. */
      readonly reason: string
      /** Who comes next, best first, should this one not answer. */
      readonly runnersUp: readonly { readonly nodeId: string; readonly reason: string }[]
    }
  | {
      readonly type: 'none'
      readonly reason: 'no nodes' | 'platform unknown' | 'all offline' | 'all draining'
      /** Platforms that nodes build natively, online or not. */
      readonly platforms: readonly string[]
    }

export { normalPlatform } from './platform.ts'
export { explainNone, route } from './route.ts'
