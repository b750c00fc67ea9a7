/**
 * What a plan, the index and recorded durations together foresee. Layers are not known here one by one: each
 * step's own layers count as one, as heavy as its result is heavier than that of the step below. That errs where
 * a step stands on an image that the node lacks, and where two steps share a layer by chance.
 */
import { isDigest } from '../../core/digest.ts'
import type { PlannedStep } from '../../proto/generated/hearth/v1/plan.ts'
import type { Forecast, ForecastStep, Layer, Warmth } from './forecast.ts'
import type { Rates } from './rates.ts'
import type { HeatTable } from './step-heat.ts'

export interface PlanForecast {
  readonly planned: readonly PlannedStep[]
  readonly steps: Forecast
  warmth(nodeId: string): Warmth
  readonly heat: HeatTable
}

/** Of an operation that was never seen to run. */
const unknownRunMs = 10_000
const unknownCopyMs = 300

/** To find a holder and to have its first byte. */
const firstByteMs = 5

/**
 * @param planned steps with what they last took, where that is known.
 * @param known.heat with a row for each of them.
 */
export function forecastPlan(
  planned: readonly PlannedStep[],
  known: { heat: HeatTable; rates: Pick<Rates, 'bytesPerMs'> },
): PlanForecast {
  const { heat } = known
  const steps = forecastSteps(planned, heat)
  const columns = new Map(heat.nodeIds.map((nodeId, column) => [nodeId, column]))
  const rowOf = new Map(planned.map(({ key }, row) => [key, row]))

  /** Who holds a result holds the layers below it. */
  function heldLayers(column: number): Set<string> {
    const held = new Set<string>()
    for (const [row, step] of steps.entries()) {
      if (heat.at(row, column) === undefined) continue
      const layers = step.layers ?? []
      for (let place = layers.length - 1; place >= 0; place -= 1) {
        const digest = layers[place]?.digest ?? ''
        // What is below it has come with it.
        if (held.has(digest)) break
        held.add(digest)
      }
    }
    return held
  }

  return {
    planned,
    steps,
    heat,
    warmth(nodeId) {
      const column = columns.get(nodeId)
      const held = column === undefined ? new Set<string>() : heldLayers(column)
      const bytesPerMs = known.rates.bytesPerMs('peers', nodeId)
      return {
        isHot: (row) =>
          column !== undefined &&
          planned[row]?.runsAnyway === false &&
          heat.at(row, column) === 'hot',
        bringMs({ digest, bytes }) {
          if (held.has(digest)) return 0
          const row = rowOf.get(digest)
          if (row === undefined || !heat.isSomewhere(row)) return undefined
          return firstByteMs + bytes / bytesPerMs
        },
      }
    },
  }
}

function forecastSteps(planned: readonly PlannedStep[], heat: HeatTable): Forecast {
  const rowOf = new Map<string, number>()
  const forecast: ForecastStep[] = []
  for (const [row, step] of planned.entries()) {
    const inputs = step.inputs.flatMap((key) => rowOf.get(key) ?? [])
    forecast.push({
      inputs,
      runMs: expectedRunMs(step),
      layers: layersOf(row, step, inputs, { heat, forecast }),
    })
    if (step.key !== '' && !rowOf.has(step.key)) rowOf.set(step.key, row)
  }
  return forecast
}

/** Undefined when nobody has the result, or the step is to run whoever has it. */
function layersOf(
  row: number,
  { key, runsAnyway }: PlannedStep,
  inputs: readonly number[],
  { heat, forecast }: { heat: HeatTable; forecast: Forecast },
): Layer[] | undefined {
  if (runsAnyway || !isDigest(key) || !heat.isSomewhere(row)) return undefined
  const bytes = heat.bytes(row)
  // The first input is what a step stands on; the others are what it copies from.
  const base = inputs.find((input) => {
    return forecast[input]?.layers !== undefined && heat.bytes(input) <= bytes
  })
  const below = base === undefined ? [] : (forecast[base]?.layers ?? [])
  const own = bytes - (base === undefined ? 0 : heat.bytes(base))
  return [...below, { digest: key, bytes: own }]
}

/** What it will take when it runs. */
export function expectedRunMs({ name, lastRanMs }: PlannedStep): number {
  if (lastRanMs > 0) return lastRanMs
  return /\]\s+RUN\b/i.test(name) ? unknownRunMs : unknownCopyMs
}
