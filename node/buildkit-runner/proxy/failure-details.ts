/**
 * What BuildKit says about a failure besides its text: the details of the gRPC status. They are JSON in a
 * `google.protobuf.Any` each (util/grpcerrors of moby/buildkit).
 */
import type { OutgoingHttpHeaders } from 'node:http2'
import { z } from 'zod'
import { fieldBytes, fieldText } from '../../../proto/wire.ts'

export interface FailureDetails {
  /** The vertex digest of the operation that failed. */
  readonly vertex: string | undefined
  /** Of the step's process. */
  readonly exitCode: number | undefined
}

/** Go writes the names of fields without a JSON name of their own as they are. */
const exitMessage = z.object({ Code: z.number().optional(), code: z.number().optional() })
const vertexMessage = z.object({ digest: z.string() })

/** google.rpc.Status: details = 3, Any { type_url = 1, value = 2 }, in base64. What cannot be read is left out. */
export function failureDetails(trailers: OutgoingHttpHeaders): FailureDetails {
  let vertex: string | undefined
  let exitCode: number | undefined
  try {
    const status = Buffer.from(String(trailers['grpc-status-details-bin'] ?? ''), 'base64')
    for (const detail of fieldBytes(status, 3)) {
      const type = fieldText(detail, 1)
      const value: unknown = parseJson(fieldText(detail, 2))
      if (/ExitMessage/.test(type)) {
        const exit = exitMessage.safeParse(value).data
        exitCode ??= exit?.Code ?? exit?.code
      }
      if (/errdefs\.Vertex/.test(type)) vertex ??= vertexMessage.safeParse(value).data?.digest
    }
  } catch {
    // Somebody else's details: the text remains.
  }
  return { vertex, exitCode }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
