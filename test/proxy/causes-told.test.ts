/** What went wrong, as the person at the terminal hears it; real processes all the way. */
import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import anyTest, { type TestFn } from 'ava'
import { type Hearth, startHearth } from '../harness/index.ts'
import { createContext } from './context.ts'

const test = anyTest as TestFn<{ hearth: Hearth }>

test.beforeEach(async (t) => {
  t.context.hearth = await startHearth()
})

test.afterEach.always(async (t) => {
  await t.context.hearth?.[Symbol.asyncDispose]()
})

interface Told {
  failure: { cause: string; text: string; advice: string; firstLine: number } | null
}

test.serial(
  'the end of a failed build names step, line and cause, as build-info does',
  async (t) => {
    const { hearth } = t.context
    await using context = await createContext(`RUN echo ${randomUUID()}; exit 139`)
    const built = await hearth.build(['--project', 'app', context.path])
    t.is(built.exitCode, 1)
    const line =
      /^hearth: .*RUN echo .* \(Dockerfile:4\) was ended by SIGSEGV .*; the program crashed$/m
    t.regex(built.stderr, line)
    t.like((JSON.parse(built.stdout) as Told).failure, { cause: 'step killed', firstLine: 4 })
    const info = await hearth.run(['build-info', built.buildId ?? ''])
    t.regex(info.stdout, /^cause +step killed: .*\(Dockerfile:4\) was ended by SIGSEGV/m)
    const document = await hearth.run(['build-info', built.buildId ?? '', '--json'])
    t.like((JSON.parse(document.stdout) as Told).failure, { cause: 'step killed', firstLine: 4 })
  },
)

test.serial(
  'BuildKit killed under a build is told by buildx, by us, and by build-info',
  async (t) => {
    const { hearth } = t.context
    await using context = await createContext('RUN sleep 86391')
    const building = hearth.build(['--project', 'app', context.path])
    await appears((line) => line.startsWith('sleep 86391'))
    const socket = await hearth.buildkitAddress('app')
    const config = socket.replace(/^unix:\/\/(.*)\.sock$/, '$1.toml')
    const buildkitd = await appears(
      (line) => /^\S*\bbuildkitd /.test(line) && line.includes(config),
    )
    process.kill(buildkitd, 'SIGKILL')
    const built = await building
    t.is(built.exitCode, 1)
    t.regex(built.stderr, /^ERROR: .*BuildKit of app\/main has ended: killed by SIGKILL during/m)
    t.regex(
      built.stderr,
      /^hearth: BuildKit of app\/main has ended: .*sleep 86391 \(Dockerfile:4\)/m,
    )
    const info = await hearth.run(['build-info', built.buildId ?? ''])
    t.regex(info.stdout, /^cause +BuildKit died: /m)
  },
)

test.serial(
  'a node that dies between the answer and the export loses the cache, and says so',
  async (t) => {
    const { hearth } = t.context
    await using context = await createContext(`RUN echo ${randomUUID()}`)
    const built = await hearth.build(['--project', 'app', context.path])
    t.is(built.exitCode, 0, built.stderr)
    process.kill(hearth.pid(), 'SIGKILL')
    await hearth.stop()
    await hearth.start()
    const { solves, outcome } = await hearth.settled(built.buildId ?? '')
    t.is(outcome, 'succeeded')
    t.is(solves[0]?.keep, 'lost')
    t.is(solves[0]?.keepReason, 'the node ended before the cache was kept')
    // What was lost is only the cache.
    const again = await hearth.build(['--project', 'app', context.path])
    t.is(again.exitCode, 0, again.stderr)
    const kept = await hearth.settled(again.buildId ?? '')
    t.is(kept.solves[0]?.keep, 'kept')
  },
)

test.serial('when the node dies under a build, the end of the build names it', async (t) => {
  const { hearth } = t.context
  await using context = await createContext('RUN sleep 86390')
  const building = hearth.build(['--project', 'app', context.path])
  await appears((line) => line.startsWith('sleep 86390'))
  process.kill(hearth.pid(), 'SIGKILL')
  const built = await building
  t.not(built.exitCode, 0)
  t.regex(built.stderr, /^hearth: the node at \S+ does not answer any more; build again/m)
  t.like((JSON.parse(built.stdout) as Told).failure, { cause: 'node lost' })
})

/** The process whose command line is so, once there is one. */
async function appears(isIt: (line: string) => boolean): Promise<number> {
  const limit = AbortSignal.timeout(60_000)
  for (;;) {
    for (const pid of await readdir('/proc')) {
      if (!/^\d+$/.test(pid)) continue
      const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (isIt(words.replaceAll('\0', ' '))) return Number(pid)
    }
    limit.throwIfAborted()
    await delay(50)
  }
}
