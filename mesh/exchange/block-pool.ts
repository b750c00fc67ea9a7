/** Buffers of one size that are used again: allocating one per read doubles the cost of a transfer. */

export const blockBytes = 1024 * 1024

export interface BlockPool {
  take(): Buffer
  give(block: Buffer): void
}

/** @param keepMax how many idle blocks are kept; more are left to the garbage collector. */
export function createBlockPool(keepMax: number): BlockPool {
  const idle: Buffer[] = []
  return {
    take: () => idle.pop() ?? Buffer.allocUnsafeSlow(blockBytes),
    give(block) {
      if (idle.length < keepMax) idle.push(block)
    },
  }
}
