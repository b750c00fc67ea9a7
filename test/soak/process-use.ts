/** What a process uses of memory and open files. */
import { readdir, readFile } from 'node:fs/promises'

export interface ProcessUse {
  /** Resident, without what it shares with files. */
  memoryBytes: number
  openFiles: number
}

/** Undefined when the process has ended. */
export async function processUse(pid: number): Promise<ProcessUse | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    const kilobytes = Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0)
    return {
      memoryBytes: kilobytes * 1024,
      openFiles: (await readdir(`/proc/${pid}/fd`)).length,
    }
  } catch {
    return undefined
  }
}
