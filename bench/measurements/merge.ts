/**
 * What is left of the work of several builders: four of them build four branches of one project at the same time, and
 * a fifth, fresh one builds all four. The part of the steps that it need not run again is what survived.
 */
import {
  busyboxImage,
  pushImage,
  startS3,
  startUpstreamRegistry,
} from '../../test/harness/index.ts'
import type { Measurement } from '../index.ts'
import { createBranches } from '../merge/branches.ts'
import { reuseOfHearth } from '../merge/hearth-nodes.ts'
import { buildByStock } from '../merge/stock-builders.ts'
import { createSamples } from '../samples.ts'
import { median, rounded } from '../statistics.ts'

export const merge: Measurement = {
  name: 'merge',
  about:
    'steps that a fresh node reuses of four concurrent builders, against a cloned state folder and the S3 cache of BuildKit',
  defaultRuns: 3,
  async run({ runs, say }) {
    const samples = createSamples()
    const shares = { reused: [] as number[], cloned: [] as number[], s3: [] as number[] }
    for (let run = 0; run < runs; run += 1) {
      const add = (who: keyof typeof shares, share: number): void => {
        shares[who].push(share)
        samples.add(run, { who: names[who], what: 'steps reused', unit: '%', value: share * 100 })
        say(`run ${run + 1} of ${runs}: ${names[who]}: ${(share * 100).toFixed(1)} %`)
      }
      await using registry = await startUpstreamRegistry()
      await using s3 = await startS3()
      const base = await pushImage(registry.host, 'busybox', '1', await busyboxImage())
      await using branches = await createBranches(base)
      // A name for each contestant: nobody finds in the registry what another one has pushed.
      const pushedBy = (who: string) => (branch: string) =>
        `type=image,name=${registry.host}/${who}/${branch}:${run},push=true`
      add('reused', await reuseOfHearth(branches, pushedBy('hearth'), { reach: [registry.host] }))
      await using stock = await buildByStock(branches, s3, pushedBy('stock'))
      add('cloned', await stock.reuseOfClone(pushedBy('clone')))
      add('s3', await stock.reuseOfS3(pushedBy('s3')))
    }
    return {
      rows: samples.rows(),
      figures: {
        reusedShare: rounded(median(shares.reused)),
        clonedShare: rounded(median(shares.cloned)),
        s3Share: rounded(median(shares.s3)),
      },
    }
  },
}

const names = { reused: 'hearth', cloned: 'cloned state', s3: 's3 cache' } as const
