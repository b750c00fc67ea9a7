/** Archives that no Hearth would write: whoever signed them, nothing of them reaches outside the mount, or a step. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { digestOf, finishDigest } from '../../../core/digest.ts'
import type { Pack, SnapshotDocument } from './document.ts'
import { type PackedEntry, readEntries, writeEntries } from './entries.ts'
import { contentOf, known, type MountBench, mountBench, scope } from './mounts.fixture.ts'
import { writeBlob } from './small-blobs.ts'

const execute = promisify(execFile)

/** Python's tarfile writes whatever it is told. */
const archiver = `
import io, json, sys, tarfile
members = json.loads(sys.argv[2])
with tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT) as archive:
    for member in members:
        info = tarfile.TarInfo(member['name'])
        info.type = getattr(tarfile, member['type'])
        info.linkname = member.get('target', '')
        info.mode = 0o755
        info.mtime = 1
        data = b'x' * member.get('bytes', 0)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
`

interface Member {
  name: string
  type: 'REGTYPE' | 'DIRTYPE' | 'SYMTYPE' | 'LNKTYPE' | 'CHRTYPE' | 'FIFOTYPE'
  target?: string
  bytes?: number
}

async function pack(
  { folder, store }: MountBench,
  members: readonly Member[],
  unpacked?: number,
): Promise<Pack> {
  const file = path.join(folder, 'hostile.tar')
  await execute('python3', ['-c', archiver, file, JSON.stringify(members)])
  const { size } = await execute('stat', ['-c', '%s', file]).then(({ stdout }) => ({
    size: Number(stdout),
  }))
  await execute('zstd', ['-q', '-f', file])
  const bytes = await readFile(`${file}.zst`)
  const digest = finishDigest(createHash('sha256').update(bytes))
  await writeBlob(store, scope, { digest, bytes })
  return { digest, size: bytes.length, unpacked: unpacked ?? size, holds: 'files' }
}

const root: PackedEntry = {
  path: '',
  type: 'folder',
  mode: '755',
  uid: 0,
  gid: 0,
  size: 0,
  modified: '1.0000000000',
  target: '',
  names: 1,
  pack: 0,
}
const file = (name: string, size: number, more: Partial<PackedEntry> = {}): PackedEntry => ({
  ...root,
  path: name,
  type: 'file',
  size,
  ...more,
})

async function fillFrom(
  bench: MountBench,
  packs: readonly Pack[],
  entries: readonly PackedEntry[],
) {
  const bytes = await writeEntries({ entries, dead: [] })
  const list = { digest: digestOf(bytes), size: bytes.length }
  await writeBlob(bench.store, scope, { digest: list.digest, bytes })
  const document: SnapshotDocument = {
    mount: { id: '/cache', variant: '', platform: 'test' },
    kind: 'newest',
    replaces: [],
    packs,
    list,
    bytes: 0,
    files: 1,
  }
  return bench.fill([known(document, 1)])
}

const folderRoot: Member = { name: './', type: 'DIRTYPE' }

const refused: Record<string, (outside: string) => { packs: Member[][]; entries: PackedEntry[] }> =
  {
    'a file through a link to elsewhere': (outside) => ({
      packs: [
        [folderRoot, { name: 'way', type: 'SYMTYPE', target: outside }],
        [{ name: 'way/out', type: 'REGTYPE', bytes: 4 }],
      ],
      entries: [root, file('way', outside.length, { type: 'link', mode: '777', target: outside })],
    }),
    'a file above the mount': () => ({
      packs: [[folderRoot, { name: '../../out', type: 'REGTYPE', bytes: 4 }]],
      entries: [root],
    }),
    'a file by its full name': (outside) => ({
      packs: [[folderRoot, { name: `${outside}/out`, type: 'REGTYPE', bytes: 4 }]],
      entries: [root],
    }),
    'another name of a file outside': (outside) => ({
      packs: [[folderRoot, { name: 'name', type: 'LNKTYPE', target: `${outside}/secret` }]],
      entries: [root, file('name', 6)],
    }),
    'a device': () => ({
      packs: [[folderRoot, { name: 'device', type: 'CHRTYPE' }]],
      entries: [root, file('device', 0)],
    }),
    'more than was listed': () => ({
      packs: [
        [
          folderRoot,
          { name: 'listed', type: 'REGTYPE', bytes: 4 },
          { name: 'extra', type: 'REGTYPE', bytes: 4 },
        ],
      ],
      entries: [root, file('listed', 4)],
    }),
    'less than was listed': () => ({
      packs: [[folderRoot]],
      entries: [root, file('listed', 4)],
    }),
  }

async function isLeft(t: ExecutionContext, filled: Awaited<ReturnType<MountBench['fill']>>) {
  t.deepEqual(filled.outcome, { type: 'left', reason: 'damaged' })
  t.is((await contentOf(filled.mount)).length, 1)
}

for (const [what, make] of Object.entries(refused)) {
  test(`${what} is refused`, async (t) => {
    const bench = await mountBench(t)
    const outside = path.join(bench.folder, 'outside')
    await mkdir(outside)
    await writeFile(path.join(outside, 'secret'), 'secret')
    const { packs, entries } = make(outside)
    const packed: Pack[] = []
    for (const members of packs) packed.push(await pack(bench, members))
    await isLeft(t, await fillFrom(bench, packed, entries))
    t.deepEqual(await readdir(outside), ['secret'])
    await t.throwsAsync(access(path.join(bench.folder, 'out')))
  })
}

test('a bomb is not unpacked further than it was said to be large', async (t) => {
  const bench = await mountBench(t)
  const bomb = await pack(
    bench,
    [folderRoot, { name: 'bomb', type: 'REGTYPE', bytes: 200_000_000 }],
    20_000,
  )
  t.true(bomb.size < 100_000)
  await isLeft(t, await fillFrom(bench, [bomb], [root, file('bomb', 200_000_000)]))
})

for (const [what, entries] of Object.entries({
  'a name above': [root, file('../out', 1)],
  'a full name': [root, file('/out', 1)],
  'a name below a link': [
    root,
    file('link', 1, { type: 'link', target: '/' }),
    file('link/out', 1),
  ],
  'a name twice': [root, file('a', 1), file('a', 1)],
})) {
  test(`a list with ${what} is none`, async (t) => {
    const bytes = await writeEntries({ entries, dead: [] })
    await t.throwsAsync(readEntries(bytes, 1), { message: /no folder can hold/ })
  })
}

test('a list that would be too large in memory is none', async (t) => {
  const { stdout } = await promisify(execFile)(
    'sh',
    ['-c', 'head -c 300000000 /dev/zero | zstd -q'],
    {
      encoding: 'buffer',
      maxBuffer: 10_000_000,
    },
  )
  await t.throwsAsync(readEntries(stdout, 1), { message: /cannot be read/ })
})
