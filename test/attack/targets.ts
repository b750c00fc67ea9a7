/** Servers in a namespace (target.ts), and who has come to them. */
import { fileURLToPath } from 'node:url'
import { startProcess } from '../harness/index.ts'
import type { Namespace } from './outer-network.ts'

export interface Targets extends AsyncDisposable {
  /** How often each has been connected to. */
  hits(name: string): number
  /** Texts that somebody asked it to note, in order. */
  notes(): string[]
}

/** @param listeners "address:port" by name. */
export async function startTargets(
  place: Namespace,
  listeners: Readonly<Record<string, string>>,
): Promise<Targets> {
  const program = fileURLToPath(new URL('target.ts', import.meta.url))
  const started = await startProcess({
    command: 'nsenter',
    args: [
      `--net=${place.path}`,
      '--',
      process.execPath,
      program,
      ...Object.entries(listeners).map(([name, at]) => `${name}=${at}`),
    ],
    ready: (child) => child.output().includes('"listening"'),
  })
  const lines = (): { hit?: string; note?: string }[] =>
    started
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line))
  return {
    hits: (name) => lines().filter(({ hit }) => hit === name).length,
    notes: () => lines().flatMap(({ note }) => (note === undefined ? [] : [note])),
    [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
  }
}

/** A path on a target that leads to this URL. */
export function pathTo(url: string): string {
  return `/to-${Buffer.from(url).toString('hex')}`
}
