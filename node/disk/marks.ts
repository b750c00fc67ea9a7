/** The amounts of free disk at which something happens. */
import { gib, mib } from '../../core/limits.ts'

/** In bytes, each below the one before. */
export interface DiskMarks {
  /** The caches shrink until there is so much. */
  readonly comfort: number
  /** They begin to shrink below this. */
  readonly low: number
  /** No new leases below this. */
  readonly minimum: number
  /** Running builds are stopped below this. */
  readonly floor: number
}

/** A build of ordinary size goes on in this much; a small disk cannot spare it. */
const minimumMax = 2 * gib
const minimumShare = 0.1
/** What a fast writer fills while its build is being stopped: half a second at 1 GB/s. */
const floorMax = 512 * mib

/**
 * Shares of the minimum, which is all there is to choose. It is meant small: a node on a machine that others
 * fill, too, must not refuse to build as long as there is space for a build.
 * @param minimum of free bytes; undefined: 2 GiB, or a tenth of a disk below 20 GiB.
 */
export function marksOf(diskBytes: number, minimum: number | undefined): DiskMarks {
  const chosen = minimum ?? Math.min(minimumMax, Math.floor(diskBytes * minimumShare))
  return {
    comfort: 2 * chosen,
    low: Math.floor(1.5 * chosen),
    minimum: chosen,
    floor: Math.min(floorMax, Math.floor(chosen / 2)),
  }
}
