import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmod,
  chown,
  link,
  mkdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import fc from 'fast-check'
import type { LocalMount } from './local-mounts.ts'
import { contentOf, known, mountBench, taken } from './mounts.fixture.ts'

const execute = promisify(execFile)

type Change =
  | { type: 'file'; path: string; bytes: number; mode: number }
  | { type: 'folder' | 'nothing'; path: string }
  | { type: 'link' | 'name'; path: string; of: string }
  | { type: 'touch'; path: string; seconds: number }

const paths = fc
  .array(fc.constantFrom('a', 'b', 'c c', 'd ', '-e', 'f\ng', 'h*', 'i\\j', 'ä'), {
    minLength: 1,
    maxLength: 3,
  })
  .map((names) => names.join('/'))

const changes: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    type: fc.constant('file' as const),
    path: paths,
    bytes: fc.integer({ min: 0, max: 4_000 }),
    mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o400),
  }),
  fc.record({ type: fc.constantFrom('folder' as const, 'nothing' as const), path: paths }),
  fc.record({ type: fc.constantFrom('link' as const, 'name' as const), path: paths, of: paths }),
  fc.record({
    type: fc.constant('touch' as const),
    path: paths,
    seconds: fc.integer({ min: 0, max: 2 ** 31 }),
  }),
)

/** What cannot be done to what is there is left undone. */
async function apply({ content }: LocalMount, change: Change): Promise<void> {
  const place = path.join(content, change.path)
  try {
    switch (change.type) {
      case 'file':
        await writeFile(place, randomBytes(change.bytes))
        await chown(place, 7, 8)
        return await chmod(place, change.mode)
      case 'folder':
        return void (await mkdir(place, { recursive: true }))
      case 'nothing':
        return await rm(place, { recursive: true, force: true })
      case 'link':
        return await symlink(change.of, place)
      case 'name':
        return await link(path.join(content, change.of), place)
      case 'touch':
        return await utimes(place, change.seconds, change.seconds + 0.123456)
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
  }
}

test('whatever is done to a mount, each snapshot is restored as it was', async (t) => {
  t.timeout(300_000)
  const bench = await mountBench(t)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(changes, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 4 }),
      async (rounds) => {
        let mount = await bench.newMount()
        for (const [round, list] of rounds.entries()) {
          for (const change of list) await apply(mount, change)
          const outcome = await bench.take(mount)
          if (outcome.type === 'none') continue
          const { document, ...after } = taken(outcome)
          mount = after.mount
          const filled = await bench.fill([known(document, round)])
          t.is(filled.outcome.type, 'filled')
          t.deepEqual(await contentOf(filled.mount), await contentOf(mount))
          // On another node it goes on from what was filled.
          if (round % 2 === 1) mount = { ...filled.mount, parents: mount.parents }
        }
      },
    ),
    { numRuns: 12 },
  )
})

async function grown(mount: LocalMount, files: number, bytes: number): Promise<void> {
  for (let index = 0; index < files; index += 1) {
    await writeFile(path.join(mount.content, `file-${index}`), randomBytes(bytes))
  }
}

test('a second snapshot stores what changed', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  await grown(mount, 200, 5_000)
  const first = taken(await bench.take(mount))
  await writeFile(path.join(mount.content, 'file-7'), 'changed')
  await rm(path.join(mount.content, 'file-8'))
  const second = taken(await bench.take(first.mount))
  t.true(second.bytesAdded < first.bytesAdded / 20, `${second.bytesAdded} of ${first.bytesAdded}`)
  const { mount: restored } = await bench.fill([known(second.document, 2)])
  t.deepEqual(await contentOf(restored), await contentOf(mount))
  const unchanged = await bench.take(second.mount)
  t.like(unchanged, { type: 'none', reason: 'unchanged' })
})

test('a pack that has become mostly dead is written anew', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  await grown(mount, 20, 5_000)
  const first = taken(await bench.take(mount))
  for (let index = 0; index < 15; index += 1) await rm(path.join(mount.content, `file-${index}`))
  const { document } = taken(await bench.take(first.mount))
  t.deepEqual(
    document.packs.map(({ holds }) => holds),
    ['files', 'folders'],
  )
  t.false(document.packs.some(({ digest }) => digest === first.document.packs[0]?.digest))
})

test('extended attributes and times to the nanosecond are kept', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  const file = path.join(mount.content, 'file')
  await writeFile(file, 'content')
  await execute('python3', [
    '-c',
    `import os; os.setxattr(${JSON.stringify(file)}, "user.colour", b"red"); os.utime(${JSON.stringify(file)}, ns=(5, 1234567890123456789))`,
  ])
  const { document } = taken(await bench.take(mount))
  const filled = await bench.fill([known(document, 1)])
  const again = path.join(filled.mount.content, 'file')
  const { stdout } = await execute('python3', [
    '-c',
    `import os; print(os.getxattr(${JSON.stringify(again)}, "user.colour"), os.stat(${JSON.stringify(again)}).st_mtime_ns)`,
  ])
  t.is(stdout.trim(), "b'red' 1234567890123456789")
})

test('what two have added to one mount is one mount, where files only ever come', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount({ targets: ['/root/.cache/pip'] })
  await mkdir(path.join(mount.content, 'http'))
  await writeFile(path.join(mount.content, 'http/both'), 'first')
  const first = taken(await bench.take(mount))
  const elsewhere = await bench.fill([known(first.document, 1)])
  await writeFile(path.join(mount.content, 'http/here'), 'here')
  await writeFile(path.join(elsewhere.mount.content, 'http/there'), 'there')
  await writeFile(path.join(elsewhere.mount.content, 'http/both'), 'second')
  const here = taken(await bench.take(first.mount))
  const there = taken(await bench.take({ ...elsewhere.mount, targets: mount.targets }))
  t.is(there.document.kind, 'union')
  const { mount: united } = await bench.fill([known(here.document, 2), known(there.document, 3)])
  const read = (name: string) => readFile(path.join(united.content, 'http', name), 'utf8')
  t.deepEqual(await Promise.all(['both', 'here', 'there'].map(read)), ['second', 'here', 'there'])
  // Of another kind, the newest alone counts.
  const plain = { ...here.document, kind: 'newest' as const }
  const { mount: newest } = await bench.fill([
    known(plain, 2),
    known({ ...there.document, kind: 'newest' }, 3),
  ])
  t.deepEqual(await contentOf(newest), await contentOf(elsewhere.mount))
})

test('no snapshot is taken of what is being written', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  await grown(mount, 100, 2_000)
  const file = path.join(mount.content, 'file-50')
  let isWriting = true
  const writing = (async () => {
    while (isWriting) await writeFile(file, randomBytes(2_000))
  })()
  const outcome = await bench.take(mount).catch((error: unknown) => ({ type: 'failed', error }))
  isWriting = false
  await writing
  t.not(outcome.type, 'taken')
  t.is((await bench.take(mount)).type, 'taken')
})

test('what came while a killed step had the mount is left out until it is written again', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  await writeFile(path.join(mount.content, 'sound'), 'sound')
  const first = taken(await bench.take(mount))
  await writeFile(path.join(mount.content, 'torn'), 'half of')
  const doubted = {
    ...first.mount,
    doubts: [['0000000000.0000000000', '9999999999.9999999999']] as const,
  }
  t.like(await bench.take(doubted), { type: 'none', reason: 'unchanged' })
})

test('a mount that only grows loses its oldest packs when it is too large, another one is not kept', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount({ targets: ['/root/.cache/pip'] })
  const write = async (name: string) => {
    await mkdir(path.join(mount.content, 'http'), { recursive: true })
    await writeFile(path.join(mount.content, 'http', name), randomBytes(10_000))
  }
  await write('old')
  const first = taken(await bench.take(mount))
  await write('new')
  const second = taken(await bench.take(first.mount, { bytesMax: 15_000 }))
  t.is(second.document.bytes, 10_000)
  const { mount: filled } = await bench.fill([known(second.document, 2)])
  t.true((await contentOf(filled)).some(({ path: name }) => name === 'http/new'))
  const plain = { ...mount, targets: ['/cache'] }
  t.like(await bench.take(plain, { bytesMax: 15_000 }), { type: 'none', reason: 'too large' })
})

test('a fill that is given up leaves the mount empty', async (t) => {
  const bench = await mountBench(t)
  const mount = await bench.newMount()
  await grown(mount, 50, 10_000)
  const { document } = taken(await bench.take(mount))
  const { outcome, mount: left } = await bench.fill([known(document, 1)], {
    signal: AbortSignal.timeout(20),
  })
  t.deepEqual(outcome, { type: 'left', reason: 'deadline passed' })
  t.is((await contentOf(left)).length, 1)
})
