import { appendFile, readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { lastMessages, logBytes, readLogFrom, rotateLog, saysCorrupt } from './log-file.ts'
import { temporaryFolder } from './pool-fixture.ts'

const startUp = `time="2026-11-23T16:33:57Z" level=warning msg="no \\"fsverity\\" here" error="not supported"
time="2026-11-23T16:33:57Z" level=info msg=ready
buildkitd: could not lock /x/buildkitd.lock, another instance running?
main.main.func2
	github.com/moby/buildkit/cmd/buildkitd/main.go:400
runtime.goexit
	runtime/asm_amd64.s:1771
`

test('the last messages come without timestamps and stack frames', (t) => {
  t.deepEqual(lastMessages(startUp, 5), [
    'no "fsverity" here',
    'ready',
    'buildkitd: could not lock /x/buildkitd.lock, another instance running?',
  ])
  t.deepEqual(lastMessages(startUp, 1), [
    'buildkitd: could not lock /x/buildkitd.lock, another instance running?',
  ])
  t.deepEqual(lastMessages('\n', 5), [])
})

test('a broken database is told from other failures', (t) => {
  t.true(
    saysCorrupt('time="x" level=info msg=y\nbuildkitd: invalid database\nmain.main\n\tmain.go:1\n'),
  )
  t.true(
    saysCorrupt(
      'panic: assertion failed: Page expected to be: 3\n\ngoroutine 1:\ngo.etcd.io/bbolt.(*Tx).page(0x2)\n',
    ),
  )
  t.false(saysCorrupt(startUp))
  t.false(saysCorrupt('panic: runtime error\n\ngoroutine 1 [running]:\nmain.main()\n'))
  t.false(
    saysCorrupt(
      'time="x" level=error msg="failed to open database file /r/cache.db, resetting to empty"\n',
    ),
  )
})

test('a log is begun anew when it is long, keeping the one before', async (t) => {
  const file = path.join(await temporaryFolder(t), 'buildkitd.log')
  await rotateLog(file, 10)
  t.is(await logBytes(file), 0)
  await appendFile(file, '0123456789')
  await rotateLog(file, 10)
  t.is(await logBytes(file), 10)
  await appendFile(file, 'x')
  await rotateLog(file, 10)
  t.is(await logBytes(file), 0)
  t.is(await readFile(`${file}.1`, 'utf8'), '0123456789x')
})

test('the end of a log is read from where a daemon began', async (t) => {
  const file = path.join(await temporaryFolder(t), 'buildkitd.log')
  t.is(await readLogFrom(file, 0, 100), '')
  await appendFile(file, 'earlier\nnow\n')
  t.is(await readLogFrom(file, 8, 100), 'now\n')
  t.is(await readLogFrom(file, 0, 4), 'now\n')
  // Begun anew meanwhile.
  t.is(await readLogFrom(file, 500, 100), 'earlier\nnow\n')
})
