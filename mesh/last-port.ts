/** The port of the last time: whoever knows a peer from before, its coordinator being away, finds it there again. */
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { hasErrno, toHearthError } from '../core/errors.ts'
import { writeFileDurably } from '../core/format-version.ts'

/**
 * Starts something that listens: on the wanted port, or, for 0, on the one of the last time, or on any where
 * another has that one now.
 * @param file keeps the port; its folder is made.
 * @throws what `start` throws for a port that was wanted, or for any.
 */
export async function startOnLastPort<Started>(
  file: string,
  wanted: number,
  start: (port: number) => Promise<Started>,
  portOf: (started: Started) => number,
): Promise<Started> {
  const last = wanted === 0 ? await readPort(file) : wanted
  const started = await start(last).catch((error: unknown) => {
    const isTaken = toHearthError(error).code === 'environment'
    if (wanted !== 0 || last === 0 || !isTaken) throw error
    return start(0)
  })
  const port = portOf(started)
  if (port !== last) {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
    await writeFileDurably(file, `${port}\n`)
  }
  return started
}

/** 0 when there is none. */
async function readPort(file: string): Promise<number> {
  try {
    const port = Number(await readFile(file, 'utf8'))
    return Number.isInteger(port) && port > 0 && port < 65_536 ? port : 0
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 0
    throw toHearthError(error, `read ${file}`)
  }
}
