import { link, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { measureFolders, measureSpace } from './disk.ts'
import { HearthError } from './errors.ts'

test('a file with several names counts once, in one folder or in two', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-disk-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [first, second] = ['first', 'second'].map((name) => path.join(folder, name))
  if (first === undefined || second === undefined) return t.fail()
  for (const each of [first, second]) await mkdir(each)
  await writeFile(path.join(first, 'a'), Buffer.alloc(1_000_000))
  const alone = await measureFolders([first])
  t.true(alone >= 1_000_000 && alone < 1_100_000)
  await link(path.join(first, 'a'), path.join(first, 'b'))
  await link(path.join(first, 'a'), path.join(second, 'a'))
  t.true((await measureFolders([first])) < 1_100_000)
  t.true((await measureFolders([first, second])) < 1_100_000)
  t.true((await measureFolders([second])) >= 1_000_000)
  t.is(await measureFolders([]), 0)
  const { freeBytes, totalBytes } = await measureSpace(folder)
  t.true(freeBytes > 0 && freeBytes < totalBytes)
})

test('a folder that is not there takes nothing, and a walk can be cancelled', async (t) => {
  t.is(await measureFolders(['/no/such/folder']), 0)
  const error = await t.throwsAsync(measureFolders(['/usr'], { signal: AbortSignal.abort() }), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'cancelled')
})
