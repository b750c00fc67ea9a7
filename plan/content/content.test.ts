import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { Selector } from '../paths.ts'
import { type ContentReader, createContentReader, type SourceFilter } from './index.ts'

interface Place {
  readonly folder: string
  readonly state: string
  readonly reader: ContentReader
}

async function createPlace(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
): Promise<Place> {
  const place = await mkdtemp(path.join(os.tmpdir(), 'hearth-content-'))
  t.teardown(() => rm(place, { recursive: true, force: true }))
  const folder = path.join(place, 'context')
  await write(folder, files)
  const state = path.join(place, 'state')
  return { folder, state, reader: openReader(t, state) }
}

function openReader(t: ExecutionContext, state: string): ContentReader {
  const reader = createContentReader({ cacheFolder: state })
  t.teardown(() => reader[Symbol.asyncDispose]())
  return reader
}

async function write(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true })
    await writeFile(path.join(folder, name), content)
  }
}

interface Ask {
  selector?: Partial<Selector>
  filter?: Partial<SourceFilter>
  reader?: ContentReader
}

async function read(place: Place, { selector, filter, reader = place.reader }: Ask = {}) {
  const selectors = [
    { path: '/', wildcard: false, followLinks: true, include: [], exclude: [], ...selector },
  ]
  const { answers, count } = await reader.read(
    [
      {
        folder: place.folder,
        filter: { include: [], exclude: [], follow: [], ...filter },
        questions: [{ id: 'one', selectors }],
      },
    ],
    { signal: AbortSignal.timeout(30_000) },
  )
  const [answer] = answers
  if (answer?.type !== 'read') throw new Error(answer?.message ?? 'no answer')
  return { ...answer, count, names: answer.files.map(([name]) => name) }
}

test('only content and permissions count: not time, place, owner or links to the same file', async (t) => {
  const one = await createPlace(t, { 'a/b': '1', c: '2' })
  const two = await createPlace(t, { 'a/b': '1' })
  await writeFile(path.join(two.folder, 'elsewhere'), '2')
  await link(path.join(two.folder, 'elsewhere'), path.join(two.folder, 'c'))
  await rm(path.join(two.folder, 'elsewhere'))
  await utimes(path.join(two.folder, 'c'), 1, 1)
  const { digest } = await read(one)
  t.is((await read(two)).digest, digest)
  await chmod(path.join(two.folder, 'c'), 0o600)
  t.not((await read(two)).digest, digest)
})

test('what is excluded is not seen, and what is taken back is', async (t) => {
  const place = await createPlace(t, { 'a/x': '1', 'a/y': '1', 'b/z': '1', 'deep/er/k': '1' })
  const exclude = ['a', '!a/y', '**/k']
  const { names } = await read(place, { filter: { exclude } })
  t.deepEqual(names, ['a', 'a/y', 'b', 'b/z', 'deep', 'deep/er'])
})

test('paths that a build names are seen with what links on the way point to', async (t) => {
  const place = await createPlace(t, { 'versions/1/app': '1', other: '1', 'set/x1': '1' })
  await symlink('versions/1', path.join(place.folder, 'current'))
  await symlink('../other', path.join(place.folder, 'set/link'))
  const follow = ['current/app', 'set/*']
  const seen = await read(place, { filter: { follow } })
  t.deepEqual(seen.names, [
    ...['current', 'other', 'set', 'set/link', 'set/x1'],
    ...['versions', 'versions/1', 'versions/1/app'],
  ])
  const selected = await read(place, { filter: { follow }, selector: { path: '/current/app' } })
  t.deepEqual(selected.names, ['versions/1/app'])
})

test('a link that leads out of the folder or in a circle leads nowhere', async (t) => {
  const place = await createPlace(t, { a: '1' })
  await symlink('round', path.join(place.folder, 'round'))
  await symlink('../../../../../../etc/passwd', path.join(place.folder, 'out'))
  for (const name of ['/round', '/out']) {
    t.deepEqual((await read(place, { selector: { path: name } })).missing, [name])
  }
})

test('a selected folder counts the same under another name', async (t) => {
  const place = await createPlace(t, { 'one/x/a': '1', 'two/x/a': '1' })
  const one = await read(place, { selector: { path: '/one' } })
  const two = await read(place, { selector: { path: '/two' } })
  t.is(one.digest, two.digest)
  t.deepEqual(one.names, ['one', 'one/x', 'one/x/a'])
})

test('included and excluded paths of one copy', async (t) => {
  const place = await createPlace(t, { 'apps/a/p.json': '1', 'apps/a/x': '1', 'apps/b/y': '1' })
  const parents = await read(place, { selector: { include: ['apps/*/p.json'] } })
  t.deepEqual(parents.names, ['apps', 'apps/a', 'apps/a/p.json'])
  const excluded = await read(place, { selector: { path: '/apps', exclude: ['a', '**/y'] } })
  t.deepEqual(excluded.names, ['apps', 'apps/b'])
})

test('wildcards take what matches, with all in it', async (t) => {
  const place = await createPlace(t, { 'a1/x/y': '1', a2: '1', b: '1', 'c/a3': '1' })
  const { names } = await read(place, { selector: { path: '/a*', wildcard: true } })
  t.deepEqual(names, ['a1', 'a1/x', 'a1/x/y', 'a2'])
  const none = await read(place, { selector: { path: '/z*', wildcard: true } })
  t.deepEqual([none.names, none.missing], [[], []])
})

test('a path that is not there is said', async (t) => {
  const place = await createPlace(t, { a: '1' })
  t.deepEqual((await read(place, { selector: { path: '/b' } })).missing, ['/b'])
})

test('a folder that is not there is an answer', async (t) => {
  const place = await createPlace(t, {})
  await rm(place.folder, { recursive: true })
  await t.throwsAsync(read(place), { message: /cannot read/ })
})

/** Reads until no file had to be opened: what is too young is not remembered. */
async function settle(place: Place, reader?: ContentReader) {
  const deadlineMs = performance.now() + 10_000
  for (;;) {
    const seen = await read(place, reader === undefined ? {} : { reader })
    if (seen.count.filesRead === 0) return seen
    if (performance.now() > deadlineMs) throw new Error('files are never remembered')
    await delay(5)
  }
}

test('a file is read again when anything about it has changed, by another process too', async (t) => {
  const place = await createPlace(t, { a: '1', b: '1' })
  const { digest } = await settle(place)
  const later = openReader(t, place.state)
  t.is((await read(place, { reader: later })).count.filesRead, 0)

  // Same size and time: only inode and change time tell.
  await utimes(path.join(place.folder, 'a'), 5, 5)
  await settle(place)
  await writeFile(path.join(place.folder, 'new'), '2')
  await utimes(path.join(place.folder, 'new'), 5, 5)
  await rename(path.join(place.folder, 'new'), path.join(place.folder, 'a'))
  const changed = await read(place)
  t.is(changed.count.filesRead, 1)
  t.not(changed.digest, digest)
  await writeFile(path.join(place.folder, 'a'), '1')
  t.is((await read(place)).digest, digest)
})

test('a file that is written right after it was read is never taken for the old one', async (t) => {
  const place = await createPlace(t, { a: '0' })
  const digests = new Set<string>()
  for (let round = 0; round < 200; round += 1) {
    await writeFile(path.join(place.folder, 'a'), `${round % 10}`)
    digests.add(`${round % 10} ${(await read(place)).digest}`)
  }
  // One digest for each content, ten contents.
  t.is(digests.size, 10)
})

test('a damaged memory is forgotten', async (t) => {
  const place = await createPlace(t, { a: '1' })
  const { digest } = await settle(place)
  for (const name of await readdir(place.state)) {
    await writeFile(path.join(place.state, name), 'hearth-content-1 and then something else')
  }
  const seen = await read(place, { reader: openReader(t, place.state) })
  t.deepEqual([seen.count.filesRead, seen.digest], [1, digest])
})

test('an abort stops the reading, and the next question is answered', async (t) => {
  const place = await createPlace(t, { a: 'x'.repeat(1000) })
  const abort = new AbortController()
  const reading = place.reader.read(
    [{ folder: '/', filter: { include: [], exclude: [], follow: [] }, questions: [] }],
    { signal: abort.signal },
  )
  abort.abort()
  await t.throwsAsync(reading, { code: 'cancelled' })
  t.deepEqual((await read(place)).names, ['a'])
})
