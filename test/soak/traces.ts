/** What Hearth could leave on a machine, and what a process of it uses. */
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'

/**
 * Mounts, bridges and control groups that one Hearth has left.
 * @param names of its data folder and its bridges.
 */
export async function tracesOf(names: readonly string[]): Promise<string[]> {
  const isOurs = (text: string): boolean => names.some((name) => text.includes(name))
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(isOurs)
  const links = (await readdir('/sys/class/net')).filter(isOurs)
  const groups = (await controlGroups('/sys/fs/cgroup', 2)).filter(isOurs)
  return [
    ...mounts.map((mount) => `mount ${mount}`),
    ...links.map((link) => `bridge ${link}`),
    ...groups.map((group) => `control group ${group}`),
  ]
}

/** On cgroup v1 each controller is a tree of its own: one level further down. */
async function controlGroups(folder: string, depth: number): Promise<string[]> {
  if (depth === 0) return []
  const found: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    if (!entry.isDirectory()) continue
    const inside = path.join(folder, entry.name)
    if (entry.name.startsWith('hearth-')) found.push(inside)
    else found.push(...(await controlGroups(inside, depth - 1)))
  }
  return found
}

export interface ProcessUse {
  /** Resident, without what it shares with files. */
  memoryBytes: number
  openFiles: number
}

export async function processUse(pid: number): Promise<ProcessUse> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const kilobytes = Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0)
  return {
    memoryBytes: kilobytes * 1024,
    openFiles: (await readdir(`/proc/${pid}/fd`)).length,
  }
}
