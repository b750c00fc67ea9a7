/** A node whose disk is small: builds go on, policies hold, and who fills the disk is told so. */
import { setTimeout as delay } from 'node:timers/promises'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { measureSpace } from '../../core/disk.ts'
import type { CacheUsageReply } from '../../proto/generated/hearth/v1/coordinator.ts'
import { type Hearth, type HearthBuild, startHearth } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'
import { createLoopDisk, type LoopDisk } from './loop-disk.ts'

const test = anyTest as TestFn<{ disk: LoopDisk; hearth: Hearth }>

const diskBytes = 3_000_000_000
const limitMs = 60_000

test.before(async (t) => {
  t.context.disk = await createLoopDisk(diskBytes)
  t.context.hearth = await startHearth({ dataFolder: `${t.context.disk.folder}/data` })
})

test.after.always(async (t) => {
  await t.context.hearth?.[Symbol.asyncDispose]()
  await t.context.disk?.[Symbol.asyncDispose]()
})

/** A layer of random bytes, which is as large in every form. */
async function build(
  t: ExecutionContext<{ hearth: Hearth }>,
  project: string,
  step: string,
): Promise<HearthBuild> {
  await using context = await createContext(`RUN ${step}`)
  const output = ['--output', 'type=image,name=layer,compression=zstd']
  const provenance = ['--provenance', 'false']
  return await t.context.hearth.build([
    '--project',
    project,
    ...output,
    ...provenance,
    context.path,
  ])
}

const layer = (name: string, bytes: number): string => `head -c ${bytes} /dev/urandom > /${name}`

async function usage(t: ExecutionContext<{ hearth: Hearth }>) {
  const { stdout, stderr, exitCode } = await t.context.hearth.run(['cache', 'usage', '--json'])
  t.is(exitCode, 0, stderr)
  const [node] = (JSON.parse(stdout) as CacheUsageReply).nodes
  if (node?.disk === undefined) throw new Error('the node tells nothing of its disk')
  return { ...node, disk: node.disk }
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + limitMs
  while (!(await check())) {
    if (performance.now() > deadlineMs) throw new Error(`waited in vain: ${what}`)
    await delay(250)
  }
}

test.serial('a project that builds more than its policy allows is kept within it', async (t) => {
  const { hearth } = t.context
  const bytesMax = 1_000_000_000
  const created = await hearth.run(['projects', 'create', 'small', '--cache-gb', '1'])
  t.is(created.exitCode, 0, created.stderr)
  for (let made = 0; made < 5; made++) {
    const built = await build(t, 'small', layer(`l${made}`, 130_000_000))
    t.is(built.exitCode, 0, built.stderr)
    const { solves } = await hearth.settled(built.buildId ?? '')
    t.deepEqual(
      solves.map(({ keep, keepReason }) => keep + keepReason),
      ['kept'],
    )
  }
  const bytes = async () =>
    (await usage(t)).projects.find(({ project }) => project === 'small')?.bytes ?? 0
  await until('the project is within its policy', async () => (await bytes()) <= bytesMax * 1.1)
  t.true((await bytes()) > bytesMax * 0.5, 'much more went than had to')

  const { disk } = await usage(t)
  t.true(disk.sharedBytes > 100_000_000, 'layers are on disk twice')
  t.is(
    disk.snapshotBytes + disk.contentBytes + disk.storeBytes - disk.sharedBytes,
    disk.totalBytes - disk.setAsideBytes,
  )
  const { freeBytes, totalBytes } = await measureSpace(t.context.disk.folder)
  // What else is on it: the coordinator, records, and the file system's own.
  t.true(Math.abs(totalBytes - freeBytes - disk.totalBytes) < 60_000_000)
})

test.serial('a policy larger than the disk fails no build: the caches give way', async (t) => {
  for (let made = 0; made < 5; made++) {
    const built = await build(t, 'large', layer(`l${made}`, 200_000_000))
    t.is(built.exitCode, 0, built.stderr)
  }
  const { freeBytes, minimumFreeBytes } = (await usage(t)).disk
  t.true(freeBytes > minimumFreeBytes / 2)
})

test.serial(
  'a build that fills the disk is stopped, is told why, and the next one builds',
  async (t) => {
    const { hearth } = t.context
    const hostile = await build(t, 'large', 'head -c 4000000000 /dev/zero > /zeros')
    t.not(hostile.exitCode, 0)
    t.regex(
      hostile.stderr,
      /the node's disk is nearly full: \d+ MB free in \S+, and builds are stopped below \d+ MB/,
    )
    t.regex(hostile.stderr, /hearth cache usage/)
    const info = await hearth.run(['build-info', hostile.buildId ?? ''])
    t.regex(info.stdout, /the node's disk is nearly full: \d+ MB free/)

    const next = await build(t, 'large', layer('next', 10_000_000))
    t.is(next.exitCode, 0, next.stderr)
    const { solves } = await hearth.settled(next.buildId ?? '')
    t.is(solves[0]?.keep, 'kept', solves[0]?.keepReason)
    const verified = await hearth.run(['cache', 'verify'])
    t.is(verified.exitCode, 0, verified.stdout + verified.stderr)
    t.true((await usage(t)).disk.freeBytes > 0)
  },
)
