import test from 'ava'
import { createQuietTime } from './quiet-time.ts'

const nobody = { isAnybodyQueued: () => false }

async function waited(promise: Promise<void>): Promise<number> {
  const startedMs = performance.now()
  await promise
  return performance.now() - startedMs
}

test('an export waits until the running build has ended', async (t) => {
  const quiet = createQuietTime(nobody, { graceMs: 0, limitMs: 60_000 })
  const build = quiet.busy()
  let began = false
  const waiting = quiet.wait().then(() => {
    began = true
  })
  await new Promise((resolve) => setTimeout(resolve, 250))
  t.false(began)
  build[Symbol.dispose]()
  await waiting
  t.true(began)
})

test('a build that follows at once goes first', async (t) => {
  const quiet = createQuietTime(nobody, { graceMs: 400, limitMs: 60_000 })
  quiet.busy()[Symbol.dispose]()
  const waiting = waited(quiet.wait())
  const next = quiet.busy()
  setTimeout(() => next[Symbol.dispose](), 300)
  t.true((await waiting) >= 650)
})

test('an export does not keep a slot from somebody who waits for it', async (t) => {
  const quiet = createQuietTime({ isAnybodyQueued: () => true }, { limitMs: 60_000 })
  using _build = quiet.busy()
  t.true((await waited(quiet.wait())) < 5_000)
})

test('a node that is never quiet exports all the same', async (t) => {
  const quiet = createQuietTime(nobody, { limitMs: 200 })
  using _build = quiet.busy()
  t.true((await waited(quiet.wait())) >= 200)
})
