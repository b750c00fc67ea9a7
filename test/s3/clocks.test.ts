/** A node whose clock is an hour off: signatures, URLs and ages go by the object store's clock. */
import test from 'ava'
import type { Digest } from '../../core/digest.ts'
import {
  makeFragment,
  ownPlace,
  sharedS3,
  startNode,
} from '../../node/cache-store/s3-tier/tier.fixture.ts'
import { never, scope } from '../../node/cache-store/temporary-store.fixture.ts'

const s3 = sharedS3(test)
const hourMs = 3_600_000
const rightClock = Date.now

for (const [how, offMs] of [
  ['late', -hourMs],
  ['early', hourMs],
] as const) {
  test.serial(
    `a node whose clock is an hour ${how} keeps, reads and sweeps like others`,
    async (t) => {
      const RightDate = Date
      t.teardown(() => {
        globalThis.Date = RightDate
      })
      // As the whole process sees it, the SDK included.
      globalThis.Date = class extends RightDate {
        constructor(...given: unknown[]) {
          super(...((given.length === 0 ? [rightClock() + offMs] : given) as [number]))
        }
        static override now(): number {
          return rightClock() + offMs
        }
      } as DateConstructor
      const { store, tier } = await startNode(t, s3(), ownPlace(s3()))
      const fragment = await makeFragment(store, [1000])
      await tier.keep(scope, fragment)
      const known = new Set<Digest>()
      t.is((await tier.fragments(scope, { known, signal: never })).length, 1)
      const [blob] = fragment.blobs
      if (blob === undefined) return t.fail()
      const answer = await fetch(await tier.urlOf(blob.digest))
      t.is(answer.status, 200)
      t.is((await answer.arrayBuffer()).byteLength, 1000)
      await tier.reset(scope.project, { signal: never })
      // Younger than a day, whatever this clock says.
      t.deepEqual(await tier.sweep({ signal: never }), { objects: 0, bytesFreed: 0 })
    },
  )
}
