import { writeFile } from 'node:fs/promises'
import test from 'ava'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import { openBlobFiles } from './blob-files.ts'
import { createDigestLocks } from './digest-locks.ts'
import type { Holdings } from './holdings.ts'
import { createNews } from './news.ts'
import { createPublication } from './publication.ts'
import { filesOf, randomBlob, temporaryFolder } from './temporary-store.fixture.ts'

test('a file whose row cannot be written goes again', async (t) => {
  const folder = await temporaryFolder(t)
  const files = await openBlobFiles(folder)
  const full = async () => {
    throw new HearthError('exhausted', 'the disk is full')
  }
  const holdings: Holdings = {
    size: () => undefined,
    owns: () => false,
    sees: () => undefined,
    record: full,
    extend: full,
    release: full,
    forget: full,
    forgetLoose: full,
  }
  const locks = createDigestLocks()
  const news = createNews({ log: silentLogger }, { lostMsMax: 1000 })
  const publication = createPublication({ files, holdings, locks, news, atPoint: () => undefined })
  const { bytes, digest } = randomBlob(1000)
  const temporary = files.temporaryPath()
  await writeFile(temporary, bytes)
  const publishing = publication.publish('app/main', temporary, { digest, size: 1000 })
  t.is((await t.throwsAsync(publishing, { instanceOf: HearthError }))?.code, 'exhausted')
  t.deepEqual(await filesOf(folder), { blobs: [], temporary: [] })
})
