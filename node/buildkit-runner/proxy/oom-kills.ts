/**
 * What the kernel killed for want of memory, from its log. The counters of control groups tell it only on
 * cgroup v2 and only while the group lives; a step's group goes with the step.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { hasErrno } from '../../../core/errors.ts'

export interface OomKill {
  /** Since 1970. */
  readonly atMs: number
  /** The name of the process that was killed: at most 15 characters. */
  readonly process: string
  /** What it held in memory of its own; undefined when the kernel did not say. */
  readonly bytes: number | undefined
  /** True when the whole machine was out of memory, false when a limit of the builds was reached. */
  readonly isMachineWide: boolean
}

/** More than any kernel keeps by default (CONFIG_LOG_BUF_SHIFT up to 25, lines of 128 bytes). */
const recordsMax = 300_000
/** CONSOLE_EXT_LOG_MAX of the kernel: no record is longer. */
const recordBytesMax = 8192

/**
 * Processes below a control group that the kernel has killed for want of memory since then. Empty where the
 * kernel's log cannot be read.
 * @param controlGroup path below the mount points of the trees, without a leading slash.
 */
export async function readOomKills(controlGroup: string, sinceMs: number): Promise<OomKill[]> {
  try {
    const bootedAtMs = Date.now() - (await uptimeMs())
    await using log = await open('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK)
    return parseOomKills(await readRecords(log), { controlGroup, sinceMs, bootedAtMs })
  } catch {
    return []
  }
}

async function uptimeMs(): Promise<number> {
  const [seconds = ''] = (await readFile('/proc/uptime', 'utf8')).split(' ')
  return Number(seconds) * 1_000
}

/** Each read gives one record, until there is none that is not still to come. */
async function readRecords(log: FileHandle): Promise<string[]> {
  const buffer = Buffer.alloc(recordBytesMax)
  const records: string[] = []
  while (records.length < recordsMax) {
    try {
      const { bytesRead } = await log.read(buffer, 0, buffer.length, null)
      const record = buffer.toString('utf8', 0, bytesRead)
      if (/oom-kill:|Killed process/.test(record)) records.push(record)
    } catch (error) {
      if (hasErrno(error, 'EAGAIN')) break
      // The oldest record was overwritten meanwhile: the next read goes on behind it.
      if (!hasErrno(error, 'EPIPE')) throw error
    }
  }
  return records
}

/**
 * @param records as /dev/kmsg gives them: "priority,sequence,µs since the start,flags;text"
 *   (Documentation/ABI/testing/dev-kmsg of the kernel). The texts are those of mm/oom_kill.c.
 */
export function parseOomKills(
  records: readonly string[],
  options: { controlGroup: string; sinceMs: number; bootedAtMs: number },
): OomKill[] {
  const sizes = new Map<string, number>()
  for (const record of records) {
    const [, pid, kilobytes] = /Killed process (\d+) .* anon-rss:(\d+)kB/.exec(record) ?? []
    if (pid !== undefined) sizes.set(pid, Number(kilobytes) * 1024)
  }
  return records.flatMap((record) => {
    const [, stamp, constraint, group = '', process = '', pid = ''] =
      /^\d+,\d+,(\d+),[^;]*;oom-kill:constraint=(\w+),.*task_memcg=(.*),task=(.*),pid=(\d+),uid=/.exec(
        record,
      ) ?? []
    if (!`${group}/`.includes(`/${options.controlGroup}/`)) return []
    const atMs = options.bootedAtMs + Number(stamp) / 1_000
    if (atMs < options.sinceMs) return []
    const isMachineWide = constraint !== 'CONSTRAINT_MEMCG'
    return [{ atMs, process, bytes: sizes.get(pid), isMachineWide }]
  })
}
