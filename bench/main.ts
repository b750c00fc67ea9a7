/** `npm run bench -- NAME [--json] [--runs N] [--workload NAME]`: runs one measurement, or all of them. */
import { describeError } from '../core/errors.ts'
import { readCommandLine } from './command-line.ts'
import type { Measurement, ResultHead } from './index.ts'
import { busyWarning, describeMachine, readVersions } from './machine.ts'
import { cacheMount } from './measurements/cache-mount.ts'
import { exportWait } from './measurements/export-wait.ts'
import { freshNode } from './measurements/fresh-node.ts'
import { hotOverhead } from './measurements/hot-overhead.ts'
import { indexCost } from './measurements/index-cost.ts'
import { merge } from './measurements/merge.ts'
import { routing } from './measurements/routing.ts'
import { scale } from './measurements/scale.ts'
import { transfer } from './measurements/transfer.ts'
import { keepResult } from './results.ts'
import { formatResult } from './table.ts'

const measurements: readonly Measurement[] = [
  hotOverhead,
  exportWait,
  freshNode,
  cacheMount,
  merge,
  routing,
  indexCost,
  scale,
  transfer,
]

try {
  const names = measurements.map(({ name }) => name)
  const { name, json, runs, workload } = readCommandLine(process.argv.slice(2), names)
  for (const measurement of measurements) {
    if (name === undefined || name === measurement.name) {
      await measure(measurement, { runs: runs ?? measurement.defaultRuns, workload, json })
    }
  }
} catch (error) {
  process.stderr.write(`bench: ${describeError(error)}\n`)
  process.exitCode = 1
}

async function measure(
  measurement: Measurement,
  options: { runs: number; workload: string | undefined; json: boolean },
): Promise<void> {
  const { runs, workload, json } = options
  const { name, about } = measurement
  const startedAtMs = performance.now()
  const say = (line: string) => {
    const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0).padStart(4)
    process.stderr.write(`${seconds} s  ${name}: ${line}\n`)
  }
  say(about)
  const startedAt = new Date().toISOString()
  const machine = describeMachine()
  const warning = busyWarning(machine)
  if (warning !== undefined) say(warning)
  const versions = await readVersions()
  const { rows, figures } = await measurement.run({ runs, workload, say })
  const head: ResultHead = { name, machine, versions, startedAt, runs, rows }
  const result = { ...head, ...figures }
  const file = await keepResult(name, startedAt, result)
  say(`kept in ${file}`)
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : `\n${formatResult(head, figures)}\n`)
}
