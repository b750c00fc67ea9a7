import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { HearthError } from './errors.ts'
import { lockFolder } from './folder-lock.ts'

async function temporaryFolder() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-lock-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

test('a locked folder is refused to everybody else until it is let go', async (t) => {
  await using temporary = await temporaryFolder()
  {
    await using _lock = await lockFolder(temporary.folder, 'a coordinator')
    const error = await t.throwsAsync(lockFolder(temporary.folder, 'a coordinator'), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'environment')
    t.true(error?.message.includes(`in use by a coordinator (process ${process.pid})`))
  }
  await using _again = await lockFolder(temporary.folder, 'a coordinator')
  t.deepEqual(await readdir(temporary.folder), ['lock'])
})

test('of many that ask at once exactly one gets the folder', async (t) => {
  await using temporary = await temporaryFolder()
  await writeFile(path.join(temporary.folder, 'lock'), '{"pid":4194304}')
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, () => lockFolder(temporary.folder, 'a coordinator')),
  )
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('the lock of a process that was killed is taken over', async (t) => {
  await using temporary = await temporaryFolder()
  const module = new URL('./folder-lock.ts', import.meta.url).href
  const script = `import { lockFolder } from ${JSON.stringify(module)}
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
  await writeFile(path.join(temporary.folder, 'lock'), owner)
  await using _lock = await lockFolder(temporary.folder, 'a coordinator')
  t.pass()
})
