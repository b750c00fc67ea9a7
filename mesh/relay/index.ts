/**
 * Relaying: how news travel where a mesh is too large for everybody to be connected to everybody.
 *
 * Up to about a hundred members each is connected to each, and this room does nothing. Before there are more, the
 * coordinator makes some nodes hubs (a role in their membership). Hubs are connected to each other; everybody else to two of them,
 * another two for each, and to others only while it asks them for something. A node tells its news to its hubs, as it
 * tells them to everybody in a small mesh; a hub hands what it was told on to the other hubs, and everything to its
 * nodes, merged into one batch a second for each.
 *
 * Promises:
 * - What a node says reaches every member within a few seconds, as long as one hub of it lives. When a hub dies its
 *   peers choose another, and nothing is lost: they say what they have, and get the rest.
 * - Nothing goes in circles: between hubs go only news that the sender heard from the publisher itself; and what is
 *   known already is not applied a second time, whoever brings it.
 * - A hub can hold news back, but neither make nor change any: they are signed by their publishers, and memberships by
 *   the coordinator. It can say that a living peer is gone, or that a dead one lives; an advert is a price, never a
 *   promise.
 * - What a hub keeps is bounded; who missed more asks the publisher itself.
 */

export interface Relay extends AsyncDisposable {
  /** Connected, or said to be by a hub. */
  isPresent(peerId: string): boolean
  /** What this peer does now. */
  standing(): RelayStanding
}

export interface RelayStanding {
  readonly isHub: boolean
  /** Everybody is connected to everybody. */
  readonly isFullMesh: boolean
  /** Hubs that it is to be connected to, the one that it hears from first; empty where none are needed. */
  readonly hubs: readonly string[]
}

export { chooseHubs, type HubCandidate } from './choose-hubs.ts'
export { createRelay, type RelayOptions, type Ties } from './relay.ts'
export { hubRole } from './topology.ts'
