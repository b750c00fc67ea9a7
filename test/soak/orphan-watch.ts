/** Remembers everything that one Hearth has claimed of the machine, and finds what outlives its owner. */
import { setTimeout as delay } from 'node:timers/promises'
import { type ClaimedDaemon, claimsOf } from '../harness/index.ts'
import { deadClaims, tracesOf } from './traces.ts'

export interface OrphanWatch {
  /** Learns the names of what is claimed now. To be called often: what is gone cannot be learned. */
  look(): Promise<void>
  /** After a restart, before the first build: whatever has a name is of the life before. */
  afterRestart(hearthPid: number): Promise<string[]>
  /** Of one daemon that was killed, once its traces had time to go. */
  afterDaemon(daemon: ClaimedDaemon): Promise<string[]>
  /** When nothing runs any more; the data folder itself may be gone. */
  atTheEnd(): Promise<string[]>
}

/** Its Hearth sees the end of a daemon at once and cleans up in some tenths of a second. */
const daemonTracesMs = 20_000

export function createOrphanWatch(dataFolder: string): OrphanWatch {
  const names = new Set<string>()
  const claimIds = new Set<string>()
  let statesFolder: string | undefined

  const find = async (scope: string): Promise<ClaimedDaemon | undefined> => {
    const claims = await claimsOf(dataFolder)
    return claims.flatMap(({ daemons }) => daemons).find((daemon) => daemon.scope === scope)
  }

  return {
    async look() {
      for (const claims of await claimsOf(dataFolder)) {
        claimIds.add(claims.id)
        statesFolder = claims.folder
        for (const name of claims.daemons.flatMap((daemon) => daemon.names)) names.add(name)
      }
    },

    async afterRestart(hearthPid) {
      return [
        ...(await tracesOf([...names, `${statesFolder}/`], { except: [hearthPid] })),
        ...(await deadClaims(dataFolder, hearthPid, claimIds)),
      ]
    },

    async afterDaemon(daemon) {
      const texts = [...daemon.names, `${statesFolder}/${daemon.scope}/`]
      const deadlineMs = performance.now() + daemonTracesMs
      for (;;) {
        const successor = await find(daemon.scope)
        // A build came quicker than we: what there is now is the next daemon's, which has the same names.
        if (successor !== undefined && successor.pid !== daemon.pid) return []
        const traces = await tracesOf(texts)
        if (traces.length === 0 || performance.now() > deadlineMs) return traces
        await delay(50)
      }
    },

    async atTheEnd() {
      return [
        ...(await tracesOf([...names, dataFolder])),
        ...(await deadClaims(dataFolder, undefined, claimIds)),
      ]
    },
  }
}
