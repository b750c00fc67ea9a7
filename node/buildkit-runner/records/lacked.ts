/** What a report says of cached results that could not be delivered. */
import type { Digest } from '../../../core/digest.ts'

/**
 * `layer sha256:0123456789ab (12.3 MB): nobody is known to have it`
 * @param blob.size in bytes; absent when it is not known.
 */
export function lackedLine(blob: { digest: Digest; size?: number }, reason: string): string {
  const name = blob.digest.slice(0, 'sha256:'.length + 12)
  const size = blob.size === undefined ? '' : ` (${(blob.size / 1e6).toFixed(1)} MB)`
  return `layer ${name}${size}: ${reason}`
}
