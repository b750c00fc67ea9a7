import { execFile } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../core/errors.ts'
import { choosePlatform } from './emulated-platform.ts'
import { nativePlatform } from './native-platform.ts'

const other = nativePlatform() === 'linux/amd64' ? 'linux/arm64' : 'linux/amd64'
const interpreter = other === 'linux/arm64' ? 'qemu-aarch64' : 'qemu-x86_64'

test('a node builds for its own processor unless told otherwise', async (t) => {
  t.is(await choosePlatform(undefined, os.tmpdir()), nativePlatform())
  t.is(await choosePlatform(nativePlatform(), os.tmpdir()), nativePlatform())
})

test('a platform that no node builds is refused with those that they do', async (t) => {
  const error = await t.throwsAsync(choosePlatform('linux/sparc', os.tmpdir()), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'invalid-input')
  t.regex(error?.hint ?? '', /linux\/amd64 or linux\/arm64/)
})

/**
 * Asks for the other platform in a user namespace, where binfmt_misc is one of its own: nothing that is registered
 * there is seen by the machine, and the other way round. Undefined on kernels before 6.7, which have one for all.
 */
async function chosenAmong(
  t: ExecutionContext,
  registration: string,
): Promise<{ chosen?: string; code?: string; hint?: string } | undefined> {
  const script = path.join(import.meta.dirname, 'emulated-platform.fixture.ts')
  const inside = [
    'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 9',
    registration,
    '"$0" "$1" "$2"',
  ].join('\n')
  const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', inside]
  try {
    const { stdout } = await promisify(execFile)('unshare', [
      ...args,
      process.execPath,
      script,
      other,
    ])
    return JSON.parse(stdout)
  } catch (error) {
    if ((error as { code?: unknown }).code !== 9) throw error
    t.log('this kernel has one binfmt_misc for all')
    return undefined
  }
}

test('another platform is taken where an emulator is registered that works in a root of its own', async (t) => {
  const registration = `cat /usr/lib/binfmt.d/${interpreter}.conf >/proc/sys/fs/binfmt_misc/register`
  const found = await chosenAmong(t, registration)
  if (found !== undefined) t.deepEqual(found, { chosen: other })
  else t.pass()
})

test('without an emulator it is refused with what to install', async (t) => {
  const found = await chosenAmong(t, ':')
  if (found === undefined) return t.pass()
  t.is(found.code, 'environment')
  t.regex(found.hint ?? '', /qemu-user-static/)
})
