/** Starts a program and a companion, asks the program what it is told, and says both process ids. For tests. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { startCompanion, startProgram } from './programs.ts'
import type { SampleAnswer, SampleQuestion } from './sample-program.fixture.ts'

const program = startProgram<SampleQuestion, SampleAnswer>(
  new URL('./sample-program.fixture.ts', import.meta.url),
)
const { pid } = await program.ask({ type: 'who' })
startCompanion(new URL('./index-cost/busy-neighbour.ts', import.meta.url))
const type = process.argv[2] as SampleQuestion['type']
if (type !== 'who') program.ask({ type }).catch(() => {})
const childrenOf = (): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((each) => Number.isInteger(each) && parentOf(each) === process.pid)
while (childrenOf().length < 2) await delay(10)
process.stdout.write(`${JSON.stringify([pid, ...childrenOf().filter((each) => each !== pid)])}\n`)
setInterval(() => {}, 1_000)

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return 0
  }
}
