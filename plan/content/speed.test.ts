import { lstatSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { createFolderReader } from './read-content.ts'

const fileCount = 5_000

test('the second hashing of 5,000 small files reads none of them and takes under 50 ms', async (t) => {
  t.timeout(120_000)
  const place = await mkdtemp(path.join(os.tmpdir(), 'hearth-speed-'))
  t.teardown(() => rm(place, { recursive: true, force: true }))
  const folder = path.join(place, 'context')
  const files = Array.from({ length: fileCount }, (_, index) => `${index % 50}/file-${index}`)
  for (let index = 0; index < 50; index += 1) {
    await mkdir(path.join(folder, `${index}`), { recursive: true })
  }
  for (const file of files) await writeFile(path.join(folder, file), `content of ${file}`)
  const all = { path: '/', wildcard: false, followLinks: false, include: [], exclude: [] }
  const ask = {
    folder,
    filter: { include: [], exclude: [], follow: [] },
    questions: [{ id: 'all', selectors: [all] }],
  }
  // As a new process does: it knows only what was written down.
  const readAgain = () => createFolderReader(path.join(place, 'state'))(ask).count
  const deadlineMs = performance.now() + 30_000
  // What is too young is not remembered.
  while (readAgain().filesRead > 0 && performance.now() < deadlineMs) await delay(5)

  const bareMs: number[] = []
  const tookMs: number[] = []
  for (let round = 0; round < 15; round += 1) {
    bareMs.push(
      timed(() => {
        for (const file of files) lstatSync(`${folder}/${file}`)
      }),
    )
    tookMs.push(
      timed(() => {
        const count = readAgain()
        t.deepEqual([count.files, count.filesRead], [fileCount, 0])
      }),
    )
  }
  const [bare, took] = [Math.min(...bareMs), Math.min(...tookMs)]
  t.log(`${took.toFixed(0)} ms; looking at each file's times alone: ${bare.toFixed(0)} ms`)
  // Beside others, on a machine that is busy, everything takes longer.
  t.true(took < 50 || took < 5 * bare)
})

function timed(run: () => void): number {
  const startedAtMs = performance.now()
  run()
  return performance.now() - startedAtMs
}
