import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { gib, mib } from '../../../core/limits.ts'
import { limitControlGroup, makeControlGroup } from './control-groups.ts'
import { temporaryFolder } from './pool-fixture.ts'

const limits = { memoryBytes: 2 * gib, pids: 100, cpus: 1.5, weight: 2 }

/** A folder with the files that the kernel makes with a group: this machine has one version of the two. */
async function groupFiles(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
): Promise<{ root: string; read(file: string): Promise<string> }> {
  const root = await temporaryFolder(t)
  for (const [file, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true })
    await writeFile(path.join(root, file), content)
  }
  return { root, read: (file) => readFile(path.join(root, file), 'utf8') }
}

const unified = {
  'cgroup.controllers': 'cpu memory pids',
  'cgroup.subtree_control': '',
  'g/memory.max': '',
  'g/memory.swap.max': '',
  'g/memory.stat': `anon ${10 * mib}\nfile ${900 * mib}\nkernel ${mib}\nshmem ${mib}\n`,
  'g/pids.max': '',
  'g/cpu.max': '',
  'g/cpu.weight': '',
}

test('on cgroup v2 memory, processes and cores are limited', async (t) => {
  const { root, read } = await groupFiles(t, unified)
  await makeControlGroup('g', root)
  t.deepEqual(await limitControlGroup('g', limits, root), [])
  t.is(await read('g/memory.max'), `${2 * gib}`)
  t.is(await read('g/memory.swap.max'), '0')
  t.is(await read('g/pids.max'), '100')
  t.is(await read('g/cpu.max'), '150000 100000')
  t.is(await read('g/cpu.weight'), '200')
})

test('on cgroup v2 a lower limit leaves what could only be had by killing', async (t) => {
  const { root, read } = await groupFiles(t, unified)
  await limitControlGroup('g', { ...limits, memoryBytes: mib, cpus: undefined }, root)
  t.is(await read('g/memory.max'), `${Math.ceil(12 * mib * 1.1)}`)
  t.is(await read('g/cpu.max'), 'max 100000')
})

test('what the kernel does not limit is named', async (t) => {
  const { root } = await groupFiles(t, { 'cgroup.controllers': '', 'g/pids.max': '' })
  t.deepEqual(await limitControlGroup('g', limits, root), ['memory', 'cpu'])
  const trees = await groupFiles(t, { 'pids/g/pids.max': '' })
  t.deepEqual(await limitControlGroup('g', limits, trees.root), ['memory', 'cpu'])
})

test('on cgroup v1 the limits go into its trees', async (t) => {
  const { root, read } = await groupFiles(t, {
    'memory/g/memory.limit_in_bytes': '',
    'memory/g/memory.memsw.limit_in_bytes': '',
    'pids/g/pids.max': '',
    'cpu/g/cpu.cfs_period_us': '',
    'cpu/g/cpu.cfs_quota_us': '',
    'cpu/g/cpu.shares': '',
  })
  t.deepEqual(await limitControlGroup('g', limits, root), [])
  t.is(await read('memory/g/memory.limit_in_bytes'), `${2 * gib}`)
  t.is(await read('memory/g/memory.memsw.limit_in_bytes'), `${2 * gib}`)
  t.is(await read('cpu/g/cpu.cfs_quota_us'), '150000')
  t.is(await read('cpu/g/cpu.shares'), '2048')
})
