/** A small disk of its own: a file system in a file, mounted below the temporary folder. */
import { execFile } from 'node:child_process'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { createTemporaryFolder } from '../harness/index.ts'

export interface LoopDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly folder: string
}

const run = promisify(execFile)
// Programs of the administrator are often missing from the PATH.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

/** @param bytes as large as the file may become; it takes only what is written to it. */
export async function createLoopDisk(bytes: number): Promise<LoopDisk> {
  await using cleanUp = new AsyncDisposableStack()
  const { path: parent } = cleanUp.use(await createTemporaryFolder('disk'))
  const file = path.join(parent, 'disk.img')
  const folder = path.join(parent, 'mounted')
  await writeFile(file, '')
  await truncate(file, bytes)
  await mkdir(folder)
  // No blocks for root alone: what is free is what builds can have. No journal to speak of: less to write.
  await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-J', 'size=16', file], { env })
  // With a device of its own, which goes with the mount; what is deleted frees space in the file too.
  await run('mount', ['-o', 'loop,noatime,discard', file, folder], { env })
  cleanUp.defer(async () => {
    await run('umount', [folder], { env })
  })
  const owned = cleanUp.move()
  return { folder, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
