/** Starts a giver and waits until it listens. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { GiverPorts, GiverTask } from './giver.ts'

export interface Giver extends AsyncDisposable {
  readonly ports: GiverPorts
}

const program = fileURLToPath(new URL('./giver.ts', import.meta.url))

/** @throws Error when the process ends instead. */
export async function startGiver(task: GiverTask): Promise<Giver> {
  const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  child.stdin.write(`${JSON.stringify(task)}\n`)
  const lines = createInterface({ input: child.stdout })
  const [line] = await Promise.race([
    once(lines, 'line'),
    ended.then(() => Promise.reject(new Error('the giver has ended'))),
  ])
  return {
    ports: JSON.parse(String(line)) as GiverPorts,
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await ended
    },
  }
}
