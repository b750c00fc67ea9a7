/**
 * Where builds are sent, on made-up histories of 200 builds and eight simulated nodes of two slots. The router under
 * test is the coordinator's own; it does not see the real durations, which differ from the recorded ones by
 * 30 %. Each run is another seed, and all policies play the same history.
 *
 * And, once, how long the coordinator thinks that real builds will take, and how long they take.
 */

import type { Measurement } from '../index.ts'
import { type HistoryOptions, makeHistory } from '../routing/history.ts'
import { hearth, leastLoaded, randomNode, rendezvousHash, stickyHash } from '../routing/policies.ts'
import { foreseeBuilds, predictionError } from '../routing/real-builds.ts'
import { seededRandom } from '../routing/seeded-random.ts'
import { simulate, type World } from '../routing/simulate.ts'
import { createSamples } from '../samples.ts'
import { median, rounded } from '../statistics.ts'

const world: World = { nodes: 8, slots: 2, peerBytesPerMs: 100_000, noise: 0.3 }

const histories: Readonly<Record<string, HistoryOptions>> = {
  // All projects alike.
  even: { builds: 200, projects: 12, buildsPerS: 0.12, skew: 0 },
  // One project has about half of the builds.
  skewed: { builds: 200, projects: 12, buildsPerS: 0.12, skew: 1.5 },
}

export const routing: Measurement = {
  name: 'routing',
  about: 'seconds from request to answer over replayed histories, by where builds are sent',
  defaultRuns: 15,
  async run({ runs, say }) {
    const samples = createSamples()
    for (let run = 0; run < runs; run += 1) {
      for (const [what, options] of Object.entries(histories)) {
        const history = makeHistory(seededRandom(run), options)
        const policies = [
          hearth,
          randomNode(seededRandom(run)),
          stickyHash,
          rendezvousHash,
          leastLoaded,
        ]
        for (const policy of policies) {
          const waits = simulate(history, policy, world, seededRandom(1_000 + run))
          const value = waits.reduce((sum, wait) => sum + wait, 0) / 1000
          samples.add(run, { who: policy.name, what, unit: 's', value })
        }
      }
      say(`history ${run + 1} of ${runs}`)
    }
    say('real builds on three nodes')
    const foreseen = await foreseeBuilds(say)
    for (const [place, { what, predictedS, measuredS }] of foreseen.entries()) {
      samples.add(place, { who: 'foreseen', what, unit: 's', value: predictedS })
      samples.add(place, { who: 'took', what, unit: 's', value: measuredS })
    }
    const worst = (policy: string): number =>
      Math.min(...Object.keys(histories).map((what) => samples.ratio(what, policy, hearth.name)))
    return {
      rows: samples.rows(),
      figures: {
        ratios: {
          random: worst('random'),
          stickyHash: worst(stickyHash.name),
          stickyHashSkewed: samples.ratio('skewed', stickyHash.name, hearth.name),
          rendezvousHash: worst(rendezvousHash.name),
          leastLoaded: worst(leastLoaded.name),
        },
        predictionMedianError: rounded(median(foreseen.map(predictionError))),
      },
    }
  },
}
