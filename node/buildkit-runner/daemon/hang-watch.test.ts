import { createServer, type Socket } from 'node:net'
import path from 'node:path'
import test from 'ava'
import type { HearthError } from '../../../core/errors.ts'
import { connectControl } from './control-client.ts'
import { watchForHang } from './hang-watch.ts'
import { soon, temporaryFolder } from './pool-fixture.ts'

const quick = { everyMs: 1, answerMs: 1_000, failuresMin: 3, silentMs: 0 }

// The watch does not keep a process running, and nothing else here does.
const hold = setInterval(() => {}, 60_000)
test.after.always(() => clearInterval(hold))

/** Answers ('a') and fails ('f') as written, then fires the signal. */
function scripted(answers: string) {
  const over = new AbortController()
  let asked = 0
  const probe = async (): Promise<void> => {
    const answer = answers[asked]
    asked += 1
    if (answer === undefined) over.abort()
    if (answer === 'f') throw new Error('no answer')
  }
  return { probe, signal: over.signal, asked: () => asked }
}

test('a daemon hangs when it has failed to answer several times in a row', async (t) => {
  const { probe, signal, asked } = scripted('affaffaaafff')
  t.is((await watchForHang({ probe }, quick, signal)).type, 'hangs')
  t.is(asked(), 12)
})

test('a daemon that answers now and then does not hang', async (t) => {
  const { probe, signal } = scripted('ffaffaffaffa')
  t.deepEqual(await watchForHang({ probe }, quick, signal), { type: 'no longer watched' })
})

test('many failures in a short time are not enough', async (t) => {
  const { probe, signal } = scripted('f'.repeat(40))
  const verdict = await watchForHang({ probe }, { ...quick, silentMs: 60_000 }, signal)
  t.deepEqual(verdict, { type: 'no longer watched' })
})

test('a probe that was late by our own fault is not held against the daemon', async (t) => {
  const { probe, signal } = scripted('ffffffff')
  const heldUp = async (): Promise<void> => {
    // Nothing else of this process ran meanwhile, as on a machine that is far too busy.
    const untilMs = performance.now() + 5
    while (performance.now() < untilMs);
    await probe()
  }
  const verdict = await watchForHang({ probe: heldUp }, { ...quick, answerMs: 1 }, signal)
  t.deepEqual(verdict, { type: 'no longer watched' })
})

test('who accepts a connection and says nothing fails a probe in time', async (t) => {
  const socket = path.join(await temporaryFolder(t), 'silent.sock')
  const sockets = new Set<Socket>()
  const server = createServer((connected) => sockets.add(connected))
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  t.teardown(() => {
    for (const connected of sockets) connected.destroy()
    server.close()
  })
  using control = connectControl(socket)
  const error = await t.throwsAsync(control.probe({ limitMs: 200, signal: soon() }))
  t.is((error as HearthError).code, 'deadline')
  t.is(sockets.size, 1)
})
