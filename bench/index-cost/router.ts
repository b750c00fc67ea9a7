/**
 * The routing process of the index measurement: an index that is there already, and little else in its memory.
 * Plans come as text, as from a client; adverts come sealed, as from a peer.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { openState } from '../../coordinator/state/index.ts'
import { silentLogger } from '../../core/log.ts'
import { openNews, sealNews } from '../../mesh/adverts/envelope.ts'
import {
  type Change,
  type DigestIndex,
  openDigestIndex,
  openPeerIdentity,
} from '../../mesh/index.ts'
import { answerQuestions } from '../programs.ts'
import { type SeededRandom, seededRandom } from '../routing/seeded-random.ts'
import { type Catalogue, type CatalogueOptions, createCatalogue } from './catalogue.ts'
import { createRouteWork } from './route-work.ts'

export interface RouterTask {
  /** Of the index, filled from this catalogue. */
  folder: string
  /** Of the coordinator's state and a peer's key; empty. */
  stateFolder: string
  catalogue: CatalogueOptions
  seed: number
  warmUps: number
  routes: number
  adverts: number
}

export interface RouterAnswer {
  /** One per route, in the order of asking. */
  routeMs: number[]
  /** Time of the processor in the same. */
  routeProcessorMs: number[]
  advertsPerS: number
  /** The most that was seen. */
  anonymousBytes: number
}

/** What a build's news are: its steps, layers and manifests. */
const entriesPerAdvert = 100

async function measure(task: RouterTask): Promise<RouterAnswer> {
  const catalogue = createCatalogue(task.catalogue)
  await using index = await openDigestIndex({ folder: task.folder, log: silentLogger })
  await using state = openState({
    folder: task.stateFolder,
    history: { buildsMax: 1_000, ageMs: 3_600_000, solvesPerBuildMax: 10 },
  })
  for (const name of catalogue.nodeNames) index.markAlive(name)
  const work = createRouteWork({ state, index, catalogue })
  const random = seededRandom(task.seed)
  const answer: RouterAnswer = {
    routeMs: [],
    routeProcessorMs: [],
    advertsPerS: 0,
    anonymousBytes: 0,
  }
  for (let route = -task.warmUps; route < task.routes; route += 1) {
    const question = work.makeQuestion(random)
    // As a server's next request, not as one long loop.
    await nextTurn()
    const processorBefore = process.cpuUsage()
    const startedAtMs = performance.now()
    await work.ask(question)
    const tookMs = performance.now() - startedAtMs
    const { user, system } = process.cpuUsage(processorBefore)
    if (route < 0) continue
    answer.routeMs.push(tookMs)
    answer.routeProcessorMs.push((user + system) / 1_000)
    if (route % 100 === 0) noteMemory(answer)
  }
  answer.advertsPerS = await takeAdverts(index, catalogue, random, task)
  noteMemory(answer)
  return answer
}

/** Verified and applied, one after the other: half of what they speak of is known from others. */
async function takeAdverts(
  index: DigestIndex,
  catalogue: Catalogue,
  random: SeededRandom,
  { adverts: count, stateFolder }: RouterTask,
): Promise<number> {
  const { signingKey, peerId: publisher } = await openPeerIdentity(
    path.join(stateFolder, 'peer.pem'),
  )
  const epoch = Date.now()
  {
    await using loader = index.loadSnapshot(publisher)
    await loader.commit({ epoch, sequence: 0 })
  }
  const adverts = Array.from({ length: count }, (_, number) =>
    sealNews(
      {
        type: 'batch',
        publisher,
        position: { epoch, sequence: number + 1 },
        changes: Array.from({ length: entriesPerAdvert }, (__, place): Change => {
          const key = place % 2 === 0 ? catalogue.drawHeld(random) : catalogue.drawUnknown(random)
          return { type: 'gained', entry: { key, size: 1_000_000, heat: 'hot' } }
        }),
      },
      signingKey,
    ),
  )
  const startedAtMs = performance.now()
  for (const sealed of adverts) {
    const news = openNews(sealed)
    if (news.type === 'batch') await index.apply(news.publisher, news.position, news.changes)
  }
  return (count * 1_000) / (performance.now() - startedAtMs)
}

/** Anonymous memory of this process; the mapped file is the kernel's to take back. */
function noteMemory(answer: RouterAnswer): void {
  const [, kibibytes = '0'] =
    /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  answer.anonymousBytes = Math.max(answer.anonymousBytes, Number(kibibytes) * 1024)
}

answerQuestions(measure)
