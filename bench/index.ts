/**
 * The measurements by which Hearth earns belief: real workloads, run side by side with what people would use
 * instead, in the same run on the same machine. Raw values are kept.
 */
import type { Row } from './samples.ts'

export interface Measurement {
  readonly name: string
  /** One line: what is measured, and against what. */
  readonly about: string
  readonly defaultRuns: number
  run(options: MeasurementOptions): Promise<Findings>
}

export interface MeasurementOptions {
  runs: number
  /** For those that build one; undefined: each measurement's own. */
  workload: string | undefined
  /** Says what is going on, one line at a time. */
  say: (line: string) => void
}

export interface Findings {
  rows: Row[]
  /** What the measurement is judged by: medians over the runs. */
  figures: Figures
}

export interface Figures {
  readonly [name: string]: number | { readonly [name: string]: number }
}

/** What `--json` prints and `bench/results/` keeps; the figures stand beside these. */
export interface ResultHead {
  name: string
  machine: Machine
  versions: Versions
  startedAt: string
  runs: number
  rows: Row[]
}

export interface Machine {
  platform: string
  kernel: string
  cpu: string
  cores: number
  memoryBytes: number
  /** Processes that wanted a core, averaged over the minute before the start. */
  loadBefore: number
}

export interface Versions {
  hearth: string
  node: string
  buildkitd: string
  buildx: string
}
