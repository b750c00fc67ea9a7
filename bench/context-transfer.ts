/** Reads from BuildKit's raw progress how long the transfer of the build context took. */

interface ProgressLine {
  vertexes?: { digest: string; name: string; started?: string; completed?: string }[]
}

const contextVertex = '[internal] load build context'

/**
 * @param progress standard error of a build with `--progress rawjson`: a JSON object a line.
 * @returns seconds from the start of the transfer to its end.
 * @throws Error when the progress tells of no finished transfer.
 */
export function contextTransferSeconds(progress: string): number {
  let seconds: number | undefined
  for (const line of progress.split('\n')) {
    if (!line.startsWith('{')) continue
    for (const vertex of (JSON.parse(line) as ProgressLine).vertexes ?? []) {
      if (vertex.name !== contextVertex) continue
      if (vertex.started === undefined || vertex.completed === undefined) continue
      seconds = (Date.parse(vertex.completed) - Date.parse(vertex.started)) / 1000
    }
  }
  if (seconds === undefined) throw new Error('the progress tells of no finished context transfer')
  return seconds
}
