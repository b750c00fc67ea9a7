/**
 * How adverts and membership bear many nodes: real peers over libp2p, as many as two cores hold, and more of them over
 * a network in memory (the same adverts, index and relay; no sockets, no encryption). Nobody else is compared.
 *
 * Each build is an advert of a hundred entries. One machine plays all of them, and verifying what one says once for each
 * other costs it a second of processor time for four thousand: so there are fewer builds for each node where there are
 * more nodes, and the times say what the relay costs and not what this machine lacks.
 */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { createTemporaryFolder } from '../../test/harness/index.ts'
import type { Measurement } from '../index.ts'
import { createSamples } from '../samples.ts'
import { type FleetOptions, startFleet } from '../scale/fleet.ts'
import { median, percentile, rounded } from '../statistics.ts'

const fleets = {
  libp2p: { transport: 'libp2p', processes: 4, peers: 150, hubs: 3, tellers: 150 },
  memory: { transport: 'memory', processes: 1, peers: 1_000, hubs: 4, tellers: 50 },
} as const satisfies Record<string, Omit<FleetOptions, 'folder'>>
/** Between two builds of one node. */
const buildMinutes = { libp2p: 5, memory: 30 }
const entries = 100
const loadMs = 24_000
const idleMs = 5_000

interface Scale {
  convergeP99Ms: number
  bytesPerNodePerS: number
}

export const scale: Measurement = {
  name: 'scale',
  about: 'adverts and membership of hundreds of peers over libp2p, and of a thousand in memory',
  defaultRuns: 3,
  async run({ runs, say }) {
    const samples = createSamples()
    const found = { libp2p: [] as Scale[], memory: [] as Scale[] }
    await using temporary = await createTemporaryFolder('scale')
    for (let run = 0; run < runs; run += 1) {
      for (const name of ['libp2p', 'memory'] as const) {
        const { peers } = fleets[name]
        const who = name === 'libp2p' ? `${peers} peers over libp2p` : `${peers} peers in memory`
        say(`${who}, run ${run + 1} of ${runs}`)
        const folder = path.join(temporary.path, `${name}-${run}`)
        await mkdir(folder)
        await using fleet = await startFleet({ ...fleets[name], folder })
        const everyMs = (buildMinutes[name] * 60_000) / peers
        const adverts = Math.round(loadMs / everyMs)
        const { toLastMs, toEachMs, bytesPerPeerPerS } = await fleet.load({
          ...{ adverts, everyMs, entries },
        })
        const { cameMs, wentMs } = await fleet.newcomer()
        const idle = await fleet.traffic(idleMs)
        const convergeP99Ms = percentile(toLastMs, 99)
        found[name].push({ convergeP99Ms, bytesPerNodePerS: bytesPerPeerPerS })
        const add = (what: string, unit: 'ms' | 'B/s', value: number) =>
          samples.add(run, { who, what, unit, value })
        add('all told of all, until they know who is there', 'ms', fleet.metMs)
        add('advert to every other peer, median', 'ms', median(toLastMs))
        add('advert to every other peer, 99 of 100 within', 'ms', convergeP99Ms)
        add('advert to one other peer, median', 'ms', median(toEachMs))
        add('newcomer known to all', 'ms', cameMs)
        add('departure known to all', 'ms', wentMs)
        const load = `a build on each in ${buildMinutes[name]} minutes`
        add(`sent and received by a peer, ${load}`, 'B/s', bytesPerPeerPerS)
        // In memory nobody asks whether the others are still there.
        if (name === 'libp2p') add('sent and received by a peer, idle', 'B/s', idle)
      }
    }
    const figuresOf = (name: keyof typeof fleets) => ({
      nodes: fleets[name].peers,
      convergeP99Ms: rounded(median(found[name].map((each) => each.convergeP99Ms))),
      bytesPerNodePerS: rounded(median(found[name].map((each) => each.bytesPerNodePerS))),
    })
    return {
      rows: samples.rows(),
      figures: { ...figuresOf('memory'), libp2p: figuresOf('libp2p') },
    }
  },
}
