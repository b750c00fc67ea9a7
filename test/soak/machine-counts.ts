/** How much there is on this machine of what Hearth makes, whoever it belongs to. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import path from 'node:path'
import { runTimed } from '../harness/index.ts'

export const countedThings = [
  'mounts',
  'controlGroups',
  'bridges',
  'vethPairs',
  'rules',
  'networkNamespaces',
  'processes',
] as const
export type MachineCounts = Record<(typeof countedThings)[number], number>

export async function countMachine(): Promise<MachineCounts> {
  const processes = await userProcesses()
  return {
    mounts: linesOf(await readFile('/proc/self/mountinfo', 'utf8')),
    controlGroups: await foldersBelow('/sys/fs/cgroup'),
    bridges: linesOf(await output('ip', ['-oneline', 'link', 'show', 'type', 'bridge'])),
    vethPairs: linesOf(await output('ip', ['-oneline', 'link', 'show', 'type', 'veth'])),
    // Rules proper: what iptables makes in passing, its empty tables and chains, stays for good.
    rules: ruleLines(await output('/usr/sbin/nft', ['--numeric', 'list', 'ruleset'])),
    networkNamespaces: await networkNamespaces(processes),
    processes: processes.length,
  }
}

function linesOf(text: string): number {
  return text.split('\n').filter((line) => line.trim() !== '').length
}

function ruleLines(ruleset: string): number {
  const structure = /^\s*(table|chain|set|map|type|elements|flags|policy|\}|#|$)/
  return ruleset.split('\n').filter((line) => !structure.test(line)).length
}

async function foldersBelow(folder: string): Promise<number> {
  let count = 0
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    if (entry.isDirectory()) count += 1 + (await foldersBelow(path.join(folder, entry.name)))
  }
  return count
}

/** Without kernel threads, which have no command line. */
async function userProcesses(): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (command !== '') found.push(Number(name))
  }
  return found
}

async function networkNamespaces(pids: readonly number[]): Promise<number> {
  const links = await Promise.all(
    pids.map((pid) => readlink(`/proc/${pid}/ns/net`).catch(() => undefined)),
  )
  return new Set(links.filter((link) => link !== undefined)).size
}

async function output(command: string, args: readonly string[]): Promise<string> {
  return (await runTimed(command, args)).stdout
}
