/**
 * The builds that this coordinator has placed and that have not ended: what they were expected to take, so that a
 * burst of builds is spread before the nodes' next calls tell of it, and what is learned from how they end. In
 * memory only: a coordinator that has just started knows of the nodes' load and of nothing else.
 */
import type { Plan } from '../../proto/generated/hearth/v1/plan.ts'

export interface UnderWay {
  /** @param expected.workMs from its slot to its end. */
  placed(buildId: string, expected: ExpectedBuild): void
  granted(buildId: string, nodeId: string): void
  /** It gave the build no slot, or the build has left it. */
  left(buildId: string, nodeId: string): void
  /** Takes the build out. */
  ended(buildId: string): readonly EndedBuild[]
  /** By node, of its builds: those that run, then those that wait. A node without any is not in it. */
  remainingMs(): ReadonlyMap<string, readonly number[]>
}

export interface ExpectedBuild {
  readonly nodeId: string
  readonly workMs: number
  /** Empty without a forecast. */
  readonly plans: readonly Plan[]
  /** For layers to come and to be unpacked. */
  readonly layersMs: number
}

export interface EndedBuild extends ExpectedBuild {
  readonly placedAtMs: number
  readonly grantedAtMs: number | undefined
}

/** Whoever is forgotten by then was lost without a word. */
const forgottenAfterMs = 24 * 60 * 60_000

export function createUnderWay(options: { now: () => number }): UnderWay {
  const { now } = options
  const builds = new Map<string, EndedBuild[]>()

  function forgetOld(): void {
    for (const [id, places] of builds) {
      if (places.some(({ placedAtMs }) => placedAtMs > now() - forgottenAfterMs)) return
      builds.delete(id)
    }
  }

  function change(buildId: string, nodeId: string, to: (build: EndedBuild) => EndedBuild[]): void {
    const places = builds.get(buildId) ?? []
    const changed = places.flatMap((each) => (each.nodeId === nodeId ? to(each) : [each]))
    if (changed.length === 0) builds.delete(buildId)
    else builds.set(buildId, changed)
  }

  return {
    placed(buildId, expected) {
      forgetOld()
      const place = { ...expected, placedAtMs: now(), grantedAtMs: undefined }
      builds.set(buildId, [...(builds.get(buildId) ?? []), place])
    },
    granted: (buildId, nodeId) =>
      change(buildId, nodeId, (build) => [{ ...build, grantedAtMs: now() }]),
    left: (buildId, nodeId) => change(buildId, nodeId, () => []),
    ended(buildId) {
      const places = builds.get(buildId) ?? []
      builds.delete(buildId)
      return places
    },
    remainingMs() {
      const running = new Map<string, number[]>()
      const waiting = new Map<string, number[]>()
      for (const places of builds.values()) {
        for (const { nodeId, grantedAtMs, workMs } of places) {
          const [by, leftMs] =
            grantedAtMs === undefined
              ? [waiting, workMs]
              : [running, workMs - (now() - grantedAtMs)]
          const known = by.get(nodeId)
          if (known === undefined) by.set(nodeId, [leftMs])
          else known.push(leftMs)
        }
      }
      for (const [nodeId, timesMs] of waiting) {
        running.set(nodeId, [...(running.get(nodeId) ?? []), ...timesMs])
      }
      return running
    },
  }
}
