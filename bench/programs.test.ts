import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { startProgram } from './programs.ts'
import type { SampleAnswer, SampleQuestion } from './sample-program.fixture.ts'

const program = new URL('./sample-program.fixture.ts', import.meta.url)

test('a program answers one question after the other, and ends when it is disposed of', async (t) => {
  let pid = 0
  {
    await using sample = startProgram<SampleQuestion, SampleAnswer>(program)
    pid = (await sample.ask({ type: 'who' })).pid
    t.is((await sample.ask({ type: 'who' })).pid, pid)
    t.true(isThere(pid))
  }
  t.false(isThere(pid))
})

test('a program that dies instead of answering fails the question', async (t) => {
  await using sample = startProgram<SampleQuestion, SampleAnswer>(program)
  await t.throwsAsync(sample.ask({ type: 'die' }), { message: /has ended/ })
})

for (const type of ['who', 'never answered', 'busy'] as const) {
  test(`programs end when whoever started them is killed: ${type}`, async (t) => {
    const starter = fileURLToPath(new URL('./sample-starter.fixture.ts', import.meta.url))
    const child = spawn(process.execPath, [starter, type], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => child.kill('SIGKILL'))
    const pids = await pidsOf(child)
    t.is(pids.length, 2)
    for (const pid of pids) t.true(isThere(pid))
    child.kill('SIGKILL')
    await once(child, 'exit')
    for (const pid of pids) {
      while (isThere(pid)) await delay(20)
    }
    t.pass()
  })
}

/** A program's and a companion's, when both have begun with what they are asked. */
async function pidsOf(starter: ChildProcess): Promise<number[]> {
  if (starter.stdout === null) throw new Error('its output is not read')
  const [line] = await once(createInterface({ input: starter.stdout }), 'line')
  return JSON.parse(String(line)) as number[]
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
