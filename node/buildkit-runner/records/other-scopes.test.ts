import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { silentLogger } from '../../../core/log.ts'
import { makeScope } from '../../../core/scope.ts'
import { openCacheStore } from '../../cache-store/index.ts'
import { createSources } from '../../cache-store/sources/index.ts'
import { createRecords } from './index.ts'
import { names, pushRecord, put, servedDigests } from './pushed-records.fixture.ts'

test('a layer that only another scope holds is no part of a record, though it could be had', async (t) => {
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-records-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const log = silentLogger
  const store = stack.use(await openCacheStore({ folder: path.join(folder, 'store'), log }))
  const sources = stack.use(createSources({ store, log }))
  const records = stack.use(
    await createRecords({ store, sources, log }, { folder: path.join(folder, 'records') }),
  )
  const [own, other] = [makeScope('app', 'main'), makeScope('other', 'main')]
  const secret = await put(store, other, 'layer s')
  t.is(sources.whereabouts(own, secret), 'held')

  // As BuildKit exports an image whose manifest calls the layer a foreign one: named, and never pushed.
  const kept = await records.keep(
    own,
    await pushRecord(store, own, names('s'), { withoutBlobs: true }),
  )
  t.false(kept.added)
  using record = records.compose(own)
  t.deepEqual(servedDigests(record), [])
})
