/** What a node says of the results of steps, over a real store, advert log and index. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import type { Scope } from '../../core/scope.ts'
import { createAdverts, keyOfStep, openAdvertLog, openDigestIndex } from '../../mesh/index.ts'
import { eventually } from '../../mesh/peers.fixture.ts'
import { Step, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import type { BlobInfo } from '../cache-store/index.ts'
import {
  put,
  scope,
  stranger,
  temporaryFolder,
  temporaryStore,
} from '../cache-store/temporary-store.fixture.ts'
import { createOwnAdverts } from '../peering/index.ts'
import { createStepAdverts, keysInState } from './step-adverts.ts'

const publisher = 'this-node'

async function openSteps(t: ExecutionContext) {
  const folder = await temporaryFolder(t)
  const { store } = await temporaryStore(t)
  const stack = new AsyncDisposableStack()
  t.teardown(() => stack.disposeAsync())
  const { privateKey } = generateKeyPairSync('ed25519')
  const log = stack.use(
    await openAdvertLog({ folder: path.join(folder, 'log'), publisher, signingKey: privateKey }),
  )
  const index = stack.use(
    await openDigestIndex({ folder: path.join(folder, 'index'), log: silentLogger }),
  )
  const all = stack.use(await createAdverts({ log, index }))
  const adverts = stack.use(createOwnAdverts({ store, adverts: all, log: silentLogger }))
  const layers = new Map<Digest, readonly BlobInfo[]>()
  const listeners = new Set<(scope: Scope) => void>()
  const records = {
    stepLayers: () => layers,
    scopes: () => [scope],
    onChange(listener: (scope: Scope) => void) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
  }
  const deps = { records, store, adverts, log: silentLogger }
  const steps = stack.use(createStepAdverts(deps, { gatherMs: 5 }))
  return {
    ...{ store, steps, log },
    /** A build has left a step of these layers. */
    made(key: Digest, chain: readonly BlobInfo[]) {
      layers.set(key, chain)
      for (const listener of listeners) listener(scope)
    },
    async layer(): Promise<BlobInfo> {
      const bytes = randomBytes(1_000)
      return { digest: await put(store, scope, bytes), size: bytes.length }
    },
    says(key: Digest): string {
      const entry = log.get(keyOfStep(scope, key))
      return entry === undefined ? 'nothing' : `${entry.heat} ${entry.size}`
    },
  }
}

const [first, second] = [digestOf('first step'), digestOf('second step')]

test('a step is held while all its layers are here, and weighs what they weigh', async (t) => {
  const { store, made, layer, says, steps } = await openSteps(t)
  const [below, above] = [await layer(), await layer()]
  made(first, [below])
  made(second, [below, above])
  await eventually(() => says(second) === 'held 2000', 'the second step')
  t.is(says(first), 'held 1000')
  t.deepEqual(steps.warmSteps('app'), { hotSteps: 0, heldSteps: 2 })
  await store.remove(scope, above.digest)
  t.is(says(second), 'nothing', 'withdrawn before the file is unlinked')
  t.is(says(first), 'held 1000')
  await store.remove(scope, below.digest)
  t.is(says(first), 'nothing')
  t.deepEqual([...steps.entries()], [])
})

test('layers that come later, or belong to another scope, make no step held before they are its own', async (t) => {
  const { store, made, says } = await openSteps(t)
  const bytes = randomBytes(500)
  made(first, [{ digest: digestOf(bytes), size: bytes.length }])
  await put(store, stranger, bytes)
  made(second, [])
  await eventually(() => says(second) === 'held 0', 'a step without layers')
  t.is(says(first), 'nothing')
  const own = randomBytes(700)
  made(first, [{ digest: digestOf(own), size: own.length }])
  await put(store, scope, own)
  await eventually(() => says(first) === 'held 700', 'its own layer')
})

test('what a build has used is hot until the state is lost, whatever the store has', async (t) => {
  const { store, steps, made, layer, says } = await openSteps(t)
  const blob = await layer()
  steps.used(scope, [first])
  await eventually(() => says(first) === 'hot 0', 'the step before its record is kept')
  made(first, [blob])
  await eventually(() => says(first) === 'hot 1000', 'its weight')
  await store.remove(scope, blob.digest)
  t.is(says(first), 'hot 1000')
  t.deepEqual(steps.warmSteps('app'), { hotSteps: 1, heldSteps: 0 })
  const other = await layer()
  made(second, [other])
  steps.used(scope, [second])
  await eventually(() => says(second) === 'hot 1000', 'the second step')
  steps.cooled(scope)
  await eventually(() => says(second) === 'held 1000', 'the second step, cooled')
  t.is(says(first), 'nothing')
})

test('entries are in the order of keys, for a comparison with the log', async (t) => {
  const { steps, made, says, log } = await openSteps(t)
  const keys = Array.from({ length: 50 }, (_, step) => digestOf(`step ${step}`))
  for (const key of keys) made(key, [])
  await eventually(() => keys.every((key) => says(key) === 'held 0'), 'all steps')
  t.deepEqual([...steps.entries()], log.entriesAfter(undefined, 100))
})

test('what ran or was reused is in the state, what failed or was not reached is not', (t) => {
  const { STEP_OUTCOME_FAILED, STEP_OUTCOME_NOT_REACHED } = StepOutcome
  const { STEP_OUTCOME_RAN, STEP_OUTCOME_REUSED } = StepOutcome
  const step = (key: string, outcome: StepOutcome) => Step.create({ key, outcome })
  const steps = [
    step(first, STEP_OUTCOME_RAN),
    step(second, STEP_OUTCOME_REUSED),
    step('', STEP_OUTCOME_RAN),
    step(digestOf('failed'), STEP_OUTCOME_FAILED),
    step(digestOf('not reached'), STEP_OUTCOME_NOT_REACHED),
  ]
  t.deepEqual(keysInState(steps), [first, second])
})
