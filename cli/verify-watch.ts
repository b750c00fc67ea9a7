/** Follows a verification: findings as they come, progress now and then, the sums at the end. */
import type { VerifyCacheEvent } from '../proto/generated/hearth/v1/coordinator.ts'
import type { Terminal } from './terminal.ts'
import { formatBytes } from './units.ts'

export interface VerifyResult {
  blobs: number
  bytes: number
  findings: { nodeId: string; digest: string; problem: string; remedy: string }[]
}

// A line per second tells that it lives without burying the findings.
const progressMs = 1000

export function createVerifyWatch(terminal: Terminal): {
  see(event: VerifyCacheEvent): void
  result(): VerifyResult
} {
  const result: VerifyResult = { blobs: 0, bytes: 0, findings: [] }
  let saidAtMs = performance.now()
  return {
    see({ nodeId, event }) {
      switch (event?.event?.$case) {
        case 'progress': {
          if (performance.now() - saidAtMs < progressMs) return
          saidAtMs = performance.now()
          const { blobsDone, blobsTotal, bytesDone } = event.event.value
          terminal.note(
            `node ${nodeId}: ${blobsDone} of ${blobsTotal} blobs, ${formatBytes(bytesDone)}`,
          )
          return
        }
        case 'finding': {
          const { digest, problem, remedy } = event.event.value
          result.findings.push({ nodeId, digest, problem, remedy })
          terminal.note(`node ${nodeId}: ${digest}: ${problem}; ${remedy}`)
          return
        }
        case 'summary':
          result.blobs += event.event.value.blobs
          result.bytes += event.event.value.bytes
          return
      }
    },
    result: () => result,
  }
}
