import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import test from 'ava'
import { HearthError } from '../../../core/errors.ts'
import { lockMachine } from './machine-lock.ts'
import { temporaryFolder } from './pool-fixture.ts'

test('one holds the lock at a time', async (t) => {
  const file = path.join(await temporaryFolder(t), 'lock')
  let inside = 0
  await Promise.all(
    Array.from({ length: 5 }, async () => {
      await using _lock = await lockMachine(file)
      t.is(++inside, 1)
      await new Promise(setImmediate)
      inside--
    }),
  )
})

test('a lock that is held too long is given up', async (t) => {
  const file = path.join(await temporaryFolder(t), 'lock')
  await using _lock = await lockMachine(file)
  const error = await t.throwsAsync(lockMachine(file, { limitMs: 50 }), { instanceOf: HearthError })
  t.is(error?.code, 'deadline')
})

test('the lock of a killed process is free', async (t) => {
  const file = path.join(await temporaryFolder(t), 'lock')
  const script = `
    const { lockMachine } = await import(${JSON.stringify(import.meta.resolve('./machine-lock.ts'))})
    await lockMachine(${JSON.stringify(file)})
    console.log('locked')`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  await t.throwsAsync(lockMachine(file, { limitMs: 20 }))
  child.kill('SIGKILL')
  await using lock = await lockMachine(file)
  t.truthy(lock)
})
