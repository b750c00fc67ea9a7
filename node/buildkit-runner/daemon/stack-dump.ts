/**
 * The last thing a hanging buildkitd can tell: what each of its goroutines was doing. SIGQUIT makes Go's
 * runtime print them to standard error and end the process (os/signal: "Default behavior of signals").
 */
import { readdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { mib } from '../../../core/limits.ts'
import { logBytes, readLogFrom } from './log-file.ts'
import { descendantsRunning, isAlive, type ProcessIdentity, signalProcess } from './processes.ts'

export type DumpOutcome =
  | { type: 'dumped'; file: string }
  | { type: 'no dump'; reason: 'no buildkitd found' | 'it printed nothing' }

export interface DumpRequest {
  /** The first process of the daemon, above buildkitd. */
  process: ProcessIdentity
  /** Path of the program whose goroutines are wanted. */
  program: string
  /** Where its standard error goes. */
  logFile: string
  /** How long it may take to print; a thousand goroutines take some hundredths of a second. */
  limitMs: number
}

const dumpBytesMax = 16 * mib
const dumpsKept = 3
const probeEveryMs = 50

/** Ends buildkitd, if it can still do that. Its dump goes to a file beside the log; the newest three stay. */
export async function dumpStacks(request: DumpRequest): Promise<DumpOutcome> {
  const start = await logBytes(request.logFile)
  const [buildkitd] = await descendantsRunning(request.process.pid, request.program)
  if (buildkitd === undefined) return { type: 'no dump', reason: 'no buildkitd found' }
  signalProcess(buildkitd, 'SIGQUIT')
  // A stopped process sees no other signal before this one.
  signalProcess(buildkitd, 'SIGCONT')
  const deadlineMs = performance.now() + request.limitMs
  while ((await isAlive(buildkitd)) && performance.now() < deadlineMs) await delay(probeEveryMs)
  const text = await readLogFrom(request.logFile, start, dumpBytesMax)
  if (!/^goroutine \d+ /m.test(text)) return { type: 'no dump', reason: 'it printed nothing' }
  const file = dumpFile(request.logFile, new Date())
  await writeFile(file, text, { mode: 0o600 })
  await removeOldDumps(request.logFile)
  return { type: 'dumped', file }
}

/** Sorts by time: `buildkitd.log.hang-2026-01-31T12:00:00.000Z`. */
function dumpFile(logFile: string, at: Date): string {
  return `${logFile}.hang-${at.toISOString()}`
}

async function removeOldDumps(logFile: string): Promise<void> {
  const folder = path.dirname(logFile)
  const prefix = `${path.basename(logFile)}.hang-`
  const dumps = (await readdir(folder)).filter((name) => name.startsWith(prefix)).sort()
  for (const name of dumps.slice(0, -dumpsKept)) await rm(path.join(folder, name), { force: true })
}
