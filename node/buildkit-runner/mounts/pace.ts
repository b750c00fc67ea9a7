/** How quickly this node brings and unpacks, as measured: what a fill will take is told from that. */

export interface Pace {
  brought(bytes: number, ms: number): void
  unpacked(bytes: number, ms: number): void
  fillMs(work: { bytesToBring: number; bytesToUnpack: number }): number
}

/** Before anything was measured: a slow network, and a small machine's disk. Bytes per ms. */
const firstBringRate = 50_000
const firstUnpackRate = 150_000

/** What is over in a moment says nothing of a rate. */
const tellingBytes = 1_000_000
const weightOfNew = 0.3

export function createPace(): Pace {
  let bringRate = firstBringRate
  let unpackRate = firstUnpackRate
  const mixed = (rate: number, bytes: number, ms: number): number =>
    bytes < tellingBytes || ms <= 0 ? rate : rate * (1 - weightOfNew) + (bytes / ms) * weightOfNew
  return {
    brought(bytes, ms) {
      bringRate = mixed(bringRate, bytes, ms)
    },
    unpacked(bytes, ms) {
      unpackRate = mixed(unpackRate, bytes, ms)
    },
    fillMs: ({ bytesToBring, bytesToUnpack }) =>
      bytesToBring / bringRate + bytesToUnpack / unpackRate,
  }
}
