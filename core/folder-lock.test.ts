import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { HearthError } from './errors.ts'
import { findFolderOwner, lockFolder } from './folder-lock.ts'

const lockModule = new URL('./folder-lock.ts', import.meta.url).href

async function temporaryFolder() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-lock-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

test('a locked folder is refused to everybody else until it is let go', async (t) => {
  await using temporary = await temporaryFolder()
  t.is(await findFolderOwner(temporary.folder), undefined)
  t.is(await findFolderOwner(path.join(temporary.folder, 'nowhere')), undefined)
  {
    await using _lock = await lockFolder(temporary.folder, 'a coordinator')
    const error = await t.throwsAsync(lockFolder(temporary.folder, 'a coordinator'), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'environment')
    t.is(await findFolderOwner(temporary.folder), process.pid)
    t.true(error?.message.includes(`in use by a coordinator (process ${process.pid})`))
  }
  t.is(await findFolderOwner(temporary.folder), undefined)
  await using _again = await lockFolder(temporary.folder, 'a coordinator')
  t.deepEqual(await readdir(temporary.folder), ['lock.2'])
})

test('of many that ask at once exactly one gets the folder, again and again', async (t) => {
  await using temporary = await temporaryFolder()
  await writeFile(path.join(temporary.folder, 'lock.1'), '{"pid":4194304}')
  for (let round = 0; round < 20; round += 1) {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, () => lockFolder(temporary.folder, 'a coordinator')),
    )
    const taken = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    t.is(taken.length, 1)
    await taken[0]?.value[Symbol.asyncDispose]()
  }
  t.deepEqual(await readdir(temporary.folder), ['lock.21'])
})

test('of many processes that ask for a stale folder exactly one gets it', async (t) => {
  await using temporary = await temporaryFolder()
  await writeFile(path.join(temporary.folder, 'lock.1'), '{"pid":4194304}')
  const script = `import { lockFolder } from ${JSON.stringify(lockModule)}
    process.stdin.once('data', async () => {
      await lockFolder(${JSON.stringify(temporary.folder)}, 'a coordinator').then(
        () => console.log('taken'),
        () => console.log('refused'),
      )
      process.stdin.once('data', () => process.exit())
    })
    console.log('ready')`
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  )
  const heard = () =>
    Promise.all(children.map(async ({ stdout }) => `${await once(stdout, 'data')}`))
  const tell = () => children.map(({ stdin }) => stdin.write('go\n'))
  await heard()
  const answers = heard()
  tell()
  t.deepEqual((await answers).toSorted(), ['refused\n', 'refused\n', 'refused\n', 'taken\n'])
  const ended = Promise.all(children.map((child) => once(child, 'exit')))
  tell()
  await ended
})

test('the lock of a process that was killed is taken over', async (t) => {
  await using temporary = await temporaryFolder()
  const script = `import { lockFolder } from ${JSON.stringify(lockModule)}
    await lockFolder(${JSON.stringify(temporary.folder)}, 'a coordinator')
    console.log('locked')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  await t.throwsAsync(lockFolder(temporary.folder, 'a coordinator'), {
    message: new RegExp(`process ${child.pid}`),
  })
  child.kill('SIGKILL')
  await once(child, 'exit')
  await using _lock = await lockFolder(temporary.folder, 'a coordinator')
  t.pass()
})

test('a process that has the id of the dead owner but started later does not count', async (t) => {
  await using temporary = await temporaryFolder()
  const owner = JSON.stringify({ pid: process.pid, startedAtTicks: '1' })
  await writeFile(path.join(temporary.folder, 'lock.1'), owner)
  await using _lock = await lockFolder(temporary.folder, 'a coordinator')
  t.pass()
})
