/** How long an advert of a build takes from one of many real peers to all others. */
import { generateKeyPairSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { type Program, startProgram } from '../programs.ts'
import type { CrowdAnswer, CrowdQuestion } from './crowd.ts'

const processes = 5
const entriesPerAdvert = 100

export interface AdvertCrowd extends AsyncDisposable {
  readonly peers: number
  /** Milliseconds from saying it until the index of every other peer has it. */
  tellAll(round: number): Promise<number>
}

/** Starts them and waits until each is connected to each. */
export async function startCrowd(folder: string, peers: number): Promise<AdvertCrowd> {
  const perProcess = Math.ceil(peers / processes)
  const stack = new AsyncDisposableStack()
  const crowd: Program<CrowdQuestion, CrowdAnswer>[] = []
  const { privateKey } = generateKeyPairSync('ed25519')
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const program = new URL('./crowd.ts', import.meta.url)
  const all = (question: CrowdQuestion) => Promise.all(crowd.map((part) => part.ask(question)))
  try {
    const answers = await Promise.all(
      Array.from({ length: processes }, async (_, part) => {
        const own = path.join(folder, `crowd-${part}`)
        await mkdir(own)
        const started = stack.use(startProgram<CrowdQuestion, CrowdAnswer>(program))
        crowd.push(started)
        return await started.ask({ type: 'start', peers: perProcess, folder: own, keyPem })
      }),
    )
    const memberships = answers.flatMap((answer) => answer.memberships ?? [])
    await all({ type: 'meet', memberships })
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
  return {
    peers: perProcess * processes,
    async tellAll(round) {
      const teller = crowd[round % processes]
      const peer = Math.floor(round / processes) % perProcess
      const question = { type: 'publish', peer, seed: round, entries: entriesPerAdvert } as const
      const said = await teller?.ask(question)
      const { publisher = '', sequence = 0, atMs = 0 } = said ?? {}
      const heard = await all({ type: 'heard', publisher, sequence })
      return Math.max(...heard.map((answer) => answer.atMs ?? 0)) - atMs
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}
