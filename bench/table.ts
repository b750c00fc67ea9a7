/** Results as a person reads them. */
import type { Figures, ResultHead } from './index.ts'

export function formatResult(result: ResultHead, figures: Figures): string {
  const { machine, versions } = result
  const rows = result.rows.map((row) => [
    row.what,
    row.who,
    `${formatNumber(row.median)} ${row.unit}`,
    `${formatNumber(row.min)} to ${formatNumber(row.max)}`,
    `${row.runs}`,
  ])
  const lines = [
    `${result.name} on ${machine.cores} cores (${machine.cpu}), ${machine.platform}`,
    `Hearth ${versions.hearth}, BuildKit ${versions.buildkitd}, buildx ${versions.buildx}, Node ${versions.node}`,
    '',
    ...formatColumns([['what', 'who', 'median', 'range', 'runs'], ...rows]),
    '',
    ...flatten(figures).map(([name, value]) => `${name}: ${value}`),
  ]
  return `${lines.join('\n')}\n`
}

/** Columns as wide as their widest cell; all but the first two flush right. */
export function formatColumns(rows: readonly (readonly string[])[], leftColumns = 2): string[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length)
    }
  }
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0
        return column < leftColumns ? cell.padEnd(width) : cell.padStart(width)
      })
      .join('  ')
      .trimEnd(),
  )
}

function flatten(figures: Figures): [string, number][] {
  return Object.entries(figures).flatMap(([name, value]) =>
    typeof value === 'number'
      ? [[name, value] as [string, number]]
      : Object.entries(value).map(([inner, number]): [string, number] => [
          `${name}.${inner}`,
          number,
        ]),
  )
}

/** Three digits that matter. */
function formatNumber(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
