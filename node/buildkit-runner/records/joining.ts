/**
 * What a build on a node that has just joined waits for: a fresh machine gets its first build the moment that it is
 * there, and would run every step of it if it did not hear first what the others know.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Scope } from '../../../core/scope.ts'
import type { Mesh } from '../../../mesh/index.ts'
import type { Arrivals } from './arrivals.ts'

/** A node that has been there for longer has heard of what there is, or never will. */
const joiningMs = 10_000
const lookMs = 50

export type ListenMesh = Pick<Mesh, 'fragments' | 'host' | 'relay'>

export function createJoining(deps: { mesh: ListenMesh; arrivals: Pick<Arrivals, 'isLacking'> }): {
  untilHeard(scope: Scope, options: { signal: AbortSignal }): Promise<void>
} {
  const { mesh, arrivals } = deps
  const joinedAtMs = performance.now()

  /** Among hubs nobody is connected to all others, and whoever is tells of all. */
  function tellers(): string[] {
    const { isFullMesh } = mesh.relay.standing()
    return mesh.host
      .members()
      .filter(({ membership }) => membership.roles.includes('node'))
      .filter(({ connected }) => isFullMesh || connected)
      .map(({ membership }) => membership.peerId)
  }

  function isHeard(scope: Scope): boolean {
    const haveTold = tellers().every((peerId) => mesh.fragments?.hasTold(peerId, scope))
    return haveTold && !arrivals.isLacking(scope)
  }

  return {
    async untilHeard(scope, { signal }) {
      while (!isHeard(scope) && performance.now() - joinedAtMs < joiningMs && !signal.aborted) {
        await sleep(lookMs, undefined, { signal, ref: false }).catch(() => {})
      }
    },
  }
}
