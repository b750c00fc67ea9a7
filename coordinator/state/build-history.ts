/** Builds and what nodes reported of them, with indexes by time, by project and by being unfinished. */
import type { Database, RootDatabase } from 'lmdb'
import { KeepOutcome, SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import type { BuildHistory } from './index.ts'
import { type BuildRecord, buildRecord, bytes } from './records.ts'
import { recordReader } from './table.ts'

export interface HistoryLimits {
  buildsMax: number
  ageMs: number
  solvesPerBuildMax: number
}

/** Sorts after every id, which are lower-case letters and digits. */
const afterIds = '~'

export function createBuildHistory(
  root: RootDatabase<unknown, string>,
  limits: HistoryLimits,
): BuildHistory {
  const builds: Database<unknown, string> = root.openDB({ name: 'builds' })
  const byTime: Database<true, [number, string]> = root.openDB({ name: 'builds-by-time' })
  const byProject: Database<true, [string, number, string]> = root.openDB({
    name: 'builds-by-project',
  })
  const unfinished: Database<true, string> = root.openDB({ name: 'builds-unfinished' })
  const solves: Database<unknown, string[]> = root.openDB({ name: 'solves' })
  const pending: Database<true, string[]> = root.openDB({ name: 'solves-pending' })
  const read = recordReader('builds', buildRecord)
  const readSolve = recordReader('solves', bytes)

  function get(id: string): BuildRecord | undefined {
    const value = builds.get(id)
    return value === undefined ? undefined : read(id, value)
  }

  function put(build: BuildRecord): void {
    builds.putSync(build.id, build)
    if (build.finishedAtMs === undefined) unfinished.putSync(build.id, true)
    else unfinished.removeSync(build.id)
  }

  function known(ids: Iterable<string>): BuildRecord[] {
    return [...ids].map(get).filter((build) => build !== undefined)
  }

  function remove(build: BuildRecord): void {
    for (const key of [...solves.getKeys(rangeOfSolves(build.id))]) {
      solves.removeSync(key)
      pending.removeSync(key)
    }
    byTime.removeSync([build.openedAtMs, build.id])
    byProject.removeSync([build.project, build.openedAtMs, build.id])
    unfinished.removeSync(build.id)
    builds.removeSync(build.id)
  }

  function removeOldest(count: number): void {
    const oldest = [...byTime.getKeys({ limit: count })].map(([, id]) => id)
    for (const build of known(oldest)) remove(build)
  }

  return {
    get,
    add(build) {
      root.transactionSync(() => {
        put(build)
        byTime.putSync([build.openedAtMs, build.id], true)
        byProject.putSync([build.project, build.openedAtMs, build.id], true)
        const surplus = builds.getCount() - limits.buildsMax
        if (surplus > 0) removeOldest(surplus)
      })
    },
    update(id, change) {
      return root.transactionSync(() => {
        const build = get(id)
        if (build === undefined) return undefined
        // These are in the keys of the indexes.
        const { openedAtMs, project } = build
        const changed = { ...build, ...change, id, openedAtMs, project }
        put(changed)
        return changed
      })
    },
    startingWith(prefix, { project }) {
      const found: BuildRecord[] = []
      for (const id of builds.getKeys({ start: prefix, end: `${prefix}${afterIds}` })) {
        const build = get(id)
        if (build === undefined || (project !== undefined && build.project !== project)) continue
        found.push(build)
        if (found.length === 2) break
      }
      return found
    },
    list({ project, limit }) {
      const ids =
        project === undefined
          ? byTime.getKeys({ reverse: true, limit }).map(([, id]) => id)
          : byProject
              .getKeys({
                start: [project, Number.MAX_VALUE, afterIds],
                end: [project, 0, ''],
                reverse: true,
                limit,
              })
              .map(([, , id]) => id)
      return known(ids)
    },
    unfinished: () => known([...unfinished.getKeys()]),
    putSolve(buildId, nodeId, solve) {
      return root.transactionSync(() => {
        const key = [buildId, nodeId, solve.ref]
        const isNew = !solves.doesExist(key)
        if (isNew && solves.getKeysCount(rangeOfSolves(buildId)) >= limits.solvesPerBuildMax) {
          return false
        }
        solves.putSync(key, Buffer.from(SolveReport.encode(solve).finish()))
        if (solve.keep === KeepOutcome.KEEP_OUTCOME_PENDING) pending.putSync(key, true)
        else pending.removeSync(key)
        return true
      })
    },
    pending() {
      return [...pending.getKeys()].flatMap((key) => {
        const [buildId = '', nodeId = ''] = key
        const value = solves.get(key)
        if (value === undefined) return []
        return [{ buildId, nodeId, solve: SolveReport.decode(readSolve(key, value)) }]
      })
    },
    solves(buildId) {
      return [...solves.getRange(rangeOfSolves(buildId))]
        .map(({ key, value }) => SolveReport.decode(readSolve(key, value)))
        .sort((a, b) => Number(a.startedAt ?? 0) - Number(b.startedAt ?? 0))
    },
    prune(nowMs) {
      const end: [number, string] = [nowMs - limits.ageMs, '']
      const old = known([...byTime.getKeys({ end })].map(([, id]) => id))
      if (old.length > 0) root.transactionSync(() => old.forEach(remove))
      return old.length
    },
  }
}

function rangeOfSolves(buildId: string): { start: string[]; end: string[] } {
  return { start: [buildId], end: [buildId, afterIds] }
}
