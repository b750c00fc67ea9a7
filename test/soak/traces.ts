/**
 * What a Hearth could leave on a machine: mounts, links (bridges and the ends of veth pairs), packet filter
 * rules, routes, control groups, sockets, records of claims, and processes, also those that show only by
 * the namespace they live in.
 */
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { type CommandResult, claimsFolder, claimsOf, runTimed } from '../harness/index.ts'

/**
 * Everything on this machine that carries one of these texts.
 * @param texts names of links, beginnings of addresses, paths of folders.
 * @param options.except process ids that may live on.
 */
export async function tracesOf(
  texts: readonly string[],
  options: { except?: readonly number[] } = {},
): Promise<string[]> {
  const isOurs = (text: string): boolean => texts.some((ours) => text.includes(ours))
  const lines = async (what: string, text: Promise<string>): Promise<string[]> =>
    (await text).split('\n').flatMap((line) => (isOurs(line) ? [`${what} ${line.trim()}`] : []))
  const found = await Promise.all([
    lines('mount', readFile('/proc/self/mountinfo', 'utf8')),
    lines('link', output('ip', ['-oneline', 'link', 'show'])),
    lines('route', output('ip', ['route', 'show', 'table', 'all'])),
    lines('routing rule', output('ip', ['rule', 'show'])),
    lines('network namespace', output('ip', ['netns', 'list'])),
    // Both: a rule set of nftables may hold what iptables cannot show, and the other way around.
    lines('rule', output('iptables-save', [])),
    lines('rule', output('ip6tables-save', [])),
    // By its path: an npm package that npm puts first has an `nft`, too.
    lines('rule', output('/usr/sbin/nft', ['list', 'ruleset'])),
    lines('socket', readFile('/proc/net/unix', 'utf8')),
    lines('control group', controlGroups('/sys/fs/cgroup', 2)),
    processes(isOurs, options.except ?? []),
  ])
  return found.flat()
}

/**
 * Claims of a data folder that nobody alive stands behind.
 * @param livingPid of the one process that may have claims now.
 */
export async function deadClaims(
  dataFolder: string,
  livingPid: number | undefined,
  idsSeen: Iterable<string>,
): Promise<string[]> {
  const living = new Set<string>()
  const dead: string[] = []
  for (const { id, ownerPid } of await claimsOf(dataFolder)) {
    if (ownerPid === livingPid) living.add(id)
    else dead.push(`claims ${id} of process ${ownerPid}`)
  }
  const names = await readdir(claimsFolder).catch(() => [])
  for (const id of idsSeen) {
    if (living.has(id)) continue
    for (const name of names) if (name.startsWith(id)) dead.push(`file ${name} among the claims`)
  }
  return dead
}

async function output(command: string, args: readonly string[]): Promise<string> {
  const result = await runTimed(command, args).catch((): CommandResult | undefined => undefined)
  return result?.stdout ?? ''
}

/** On cgroup v1 each controller is a tree of its own: one level further down. */
async function controlGroups(folder: string, depth: number): Promise<string> {
  if (depth === 0) return ''
  const found: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    if (!entry.isDirectory()) continue
    const inside = path.join(folder, entry.name)
    found.push(inside, await controlGroups(inside, depth - 1))
  }
  return found.join('\n')
}

/** A step's process shows nothing of us but the mounts of its namespace; a daemon's helper its command line. */
async function processes(
  isOurs: (text: string) => boolean,
  except: readonly number[],
): Promise<string[]> {
  const found: string[] = []
  for (const name of await readdir('/proc')) {
    const pid = Number(name)
    if (!/^\d+$/.test(name) || pid === process.pid || except.includes(pid)) continue
    const command = (await fileOf(pid, 'cmdline')).replaceAll('\0', ' ').trim()
    const ours =
      isOurs(command) ||
      isOurs(await fileOf(pid, 'environ')) ||
      isOurs(await fileOf(pid, 'mountinfo'))
    if (ours) found.push(`process ${pid} ${command}`)
  }
  return found
}

/** Empty for a process that has ended. */
function fileOf(pid: number, name: string): Promise<string> {
  return readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')
}
