import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import { createAccounts } from './accounts.ts'
import { type BlobIndex, openBlobIndex } from './blob-index.ts'
import { createHoldings } from './holdings.ts'
import { createLastUse } from './last-use.ts'
import { createNews } from './news.ts'
import { createPinCounts } from './pins.ts'
import { temporaryFolder } from './temporary-store.fixture.ts'

const digest = digestOf('blob')
const holding = { scope: 'app/main', digest } as const

/**
 * @param beforeRemoval run when a transaction has decided to remove a blob's row and the row is still there:
 *   that removal comes in a transaction of its own, since how long lmdb takes to commit is chance.
 */
async function openHoldings(t: ExecutionContext, beforeRemoval?: () => void) {
  const index = openBlobIndex(path.join(await temporaryFolder(t), 'index'))
  t.teardown(() => index[Symbol.asyncDispose]())
  const watched: BlobIndex = {
    ...index,
    async write(change) {
      if (beforeRemoval === undefined) return index.write(change)
      const leaving: Digest[] = []
      const result = await index.write((rows) =>
        change({ ...rows, removeBlob: (digest) => leaving.push(digest) }),
      )
      if (leaving.length === 0) return result
      beforeRemoval()
      await index.write((rows) => {
        for (const digest of leaving) rows.removeBlob(digest)
      })
      return result
    },
  }
  const accounts = createAccounts()
  const pins = createPinCounts()
  const lastUse = createLastUse(
    { index: watched, accounts, log: silentLogger, clock: Date.now },
    { flushMs: 1000 },
  )
  const news = createNews({ log: silentLogger }, { lostMsMax: 1000 })
  const holdings = createHoldings({ index: watched, accounts, pins, lastUse, news })
  return { index, pins, holdings, accounts }
}

test('a pin given after a removal was asked for and before it was decided is kept', async (t) => {
  const { holdings, pins } = await openHoldings(t)
  await holdings.record('app/main', { digest, size: 5 })
  const releasing = holdings.release([holding], { sparePinned: true })
  t.is(holdings.sees(holding), 5)
  pins.add(holding)
  t.deepEqual(await releasing, [])
  t.is(holdings.sees(holding), 5)
})

test('from the decision to remove a blob on nobody gets to see it, though its row is still there', async (t) => {
  const seen: { row: number | undefined; visible: number | undefined }[] = []
  const { holdings, index } = await openHoldings(t, () => {
    seen.push({ row: index.size(digest), visible: holdings.size(digest) })
  })
  await holdings.record('app/main', { digest, size: 5 })
  t.like(await holdings.release([holding], { sparePinned: true }), [{ fate: 'gone' }])
  t.deepEqual(seen, [{ row: 5, visible: undefined }])
})

test('a blob recorded again right after its removal is visible and counted once', async (t) => {
  const { holdings, accounts } = await openHoldings(t)
  await holdings.record('app/main', { digest, size: 5 })
  await Promise.all([
    holdings.release([holding], { sparePinned: true }),
    holdings.record('app/fork', { digest, size: 5 }),
    holdings.forget(digest),
    holdings.record('app/main', { digest, size: 5 }),
  ])
  t.is(holdings.sees(holding), 5)
  t.false(holdings.owns({ scope: 'app/fork', digest }))
  t.like(accounts.usage(), { blobs: 1, bytes: 5 })
  t.deepEqual(accounts.project('app'), { blobs: 1, bytes: 5 })
})
