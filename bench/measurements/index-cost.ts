/**
 * What the index of the mesh costs: a route of 60 step keys and 500 digests over a thousand nodes that each hold a
 * hundred thousand digests, alone and beside a process that keeps a core busy; taking in adverts; and an advert of
 * a build from one of fifty real peers to all others. Nobody else's index is compared.
 */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { silentLogger } from '../../core/log.ts'
import { openDigestIndex } from '../../mesh/index.ts'
import { createTemporaryFolder } from '../../test/harness/index.ts'
import type { Measurement } from '../index.ts'
import { startCrowd } from '../index-cost/advert-to-all.ts'
import { type CatalogueOptions, createCatalogue } from '../index-cost/catalogue.ts'
import type { RouterAnswer, RouterTask } from '../index-cost/router.ts'
import { startCompanion, startProgram } from '../programs.ts'
import { createSamples, type Samples } from '../samples.ts'
import { median, percentile, rounded } from '../statistics.ts'

const catalogue: CatalogueOptions = { nodes: 1_000, digestsPerNode: 100_000, pool: 5_000_000 }
const routesPerRun = 2_000
const warmUps = 300
const advertsPerRun = 1_000
const peers = 50
const advertsToAll = 20
const neighbour = new URL('../index-cost/busy-neighbour.ts', import.meta.url)

export const indexCost: Measurement = {
  name: 'index',
  about: 'routes and adverts over an index of 1,000 nodes of 100,000 digests, and its memory',
  defaultRuns: 3,
  async run({ runs, say }) {
    await using stack = new AsyncDisposableStack()
    const folder = stack.use(await createTemporaryFolder('index')).path
    const indexFolder = path.join(folder, 'index')
    say('filling the index: a hundred million pairs of node and digest')
    await fillIndex(indexFolder)
    const samples = createSamples()
    const measured: RouterAnswer[] = []
    for (let run = 0; run < runs; run += 1) {
      say(`routes, run ${run + 1} of ${runs}`)
      const task = {
        ...{ folder: indexFolder, catalogue, seed: run + 1, warmUps, routes: routesPerRun },
        stateFolder: path.join(folder, `state-${run}`),
      }
      const quiet = await askRouter({ ...task, adverts: advertsPerRun })
      measured.push(quiet)
      noteRoutes(samples, run, 'alone', quiet)
      samples.add(run, {
        ...{ who: 'hearth', what: 'adverts taken in', unit: '/s', value: quiet.advertsPerS },
      })
      await using _neighbour = startCompanion(neighbour)
      noteRoutes(
        samples,
        run,
        'beside a busy core',
        await askRouter({ ...task, stateFolder: `${task.stateFolder}-busy`, adverts: 0 }),
      )
    }
    say(`connecting ${peers} peers`)
    await mkdir(path.join(folder, 'crowd'))
    await using crowd = await startCrowd(path.join(folder, 'crowd'), peers)
    const toAllMs: number[] = []
    for (let round = 0; round < advertsToAll; round += 1) {
      const value = await crowd.tellAll(round)
      toAllMs.push(value)
      samples.add(round, { who: 'hearth', what: `advert to ${peers} peers`, unit: 'ms', value })
    }
    const over = (choose: (answer: RouterAnswer) => number): number =>
      rounded(median(measured.map(choose)))
    return {
      rows: samples.rows(),
      figures: {
        nodes: catalogue.nodes,
        digestsPerNode: catalogue.digestsPerNode,
        routeP50Ms: over(({ routeMs }) => percentile(routeMs, 50)),
        routeP99Ms: over(({ routeMs }) => percentile(routeMs, 99)),
        residentBytes: Math.max(...measured.map(({ anonymousBytes }) => anonymousBytes)),
        advertsPerS: over(({ advertsPerS }) => advertsPerS),
        peers: crowd.peers,
        advertToAllP50Ms: rounded(median(toAllMs)),
        advertToAllMaxMs: rounded(Math.max(...toAllMs)),
      },
    }
  },
}

async function fillIndex(folder: string): Promise<void> {
  await using index = await openDigestIndex({ folder, log: silentLogger })
  const { nodeNames, rows } = createCatalogue(catalogue)
  index.importRows(nodeNames, rows())
}

/** In a process of its own for each run, whose memory is its own. */
async function askRouter(task: RouterTask): Promise<RouterAnswer> {
  const program = new URL('../index-cost/router.ts', import.meta.url)
  await using router = startProgram<RouterTask, RouterAnswer>(program)
  return await router.ask(task)
}

function noteRoutes(samples: Samples, run: number, who: string, answer: RouterAnswer): void {
  const add = (what: string, value: number) => samples.add(run, { who, what, unit: 'ms', value })
  add('route, median', median(answer.routeMs))
  add('route, 99 of 100 within', percentile(answer.routeMs, 99))
  add('processor time of a route, 99 of 100 within', percentile(answer.routeProcessorMs, 99))
}
