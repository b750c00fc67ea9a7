/** What a person may set of a builder node's disk. */
import { findSetting, type Layers } from '../core/config.ts'
import { settings } from './settings.ts'

export interface DiskSettings {
  /** What all caches of the node may take; undefined: as the disk allows. */
  readonly bytesMax: number | undefined
  /** Free disk below which no build begins; undefined: as the disk allows. */
  readonly freeBytesMin: number | undefined
}

/** In gigabytes as disks have them, powers of 1000. */
const gigabyte = 1e9

/** @throws HearthError `invalid-input` naming the flag, the variable, or the file and line. */
export async function readDiskSettings(layers: Layers): Promise<DiskSettings> {
  const [bytesMax, freeBytesMin] = await Promise.all(
    [settings.diskGb, settings.diskFreeGb].map(async (setting) => {
      const found = await findSetting(setting, layers)
      return found === undefined ? undefined : Number(found.value) * gigabyte
    }),
  )
  return { bytesMax, freeBytesMin }
}
