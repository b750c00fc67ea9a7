/** Which peers are asked for a blob, and in what order: who has it warm first, then who answers soonest. */
import type { BlobSource } from '../../../mesh/exchange/index.ts'
import type { Holder } from '../../../mesh/index.ts'
import type { BlobInfo } from '../index.ts'

/** Those that can be asked, the best first. */
export function nearSources(holders: readonly Holder[], blob: BlobInfo): BlobSource[] {
  return holders
    .filter((holder) => isOf(holder, blob))
    .sort((a, b) => rankOf(a) - rankOf(b))
    .map(sourceOf)
    .filter((source) => source !== undefined)
}

/** Keys of the index are half a digest, so another blob's holder may be among them: its size tells. */
function isOf({ size }: Holder, blob: BlobInfo): boolean {
  return size === 0 || size === blob.size
}

/** In ms, as if everybody had one: not measured yet is as far as another continent, not connected further still. */
function rankOf({ heat, member }: Holder): number {
  const roundTripMs = member.connected ? (member.roundTripMs ?? 300) : 1_000
  return roundTripMs + (heat === 'hot' ? 0 : 10_000)
}

function sourceOf({ member: { membership } }: Holder): BlobSource | undefined {
  const { nodeId, peerId, bulkAddress } = membership
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(bulkAddress) ?? []
  if (host === undefined) return undefined
  return { type: 'node', nodeId, peerId, host, port: Number(port) }
}
