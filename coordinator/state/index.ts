/**
 * What the coordinator knows, in LMDB: projects, tokens, nodes, builds, and how long steps take.
 *
 * Promises:
 * - What `write` did is on disk (synced) when it returns, all of it or nothing.
 * - The history is bounded: the oldest builds go.
 * - Every record has a shape that is checked when it is read, every table a version; a newer one is refused.
 */
import type { SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import type {
  BuildRecord,
  ExpelledRecord,
  NodeRecord,
  ProjectRecord,
  TokenRecord,
} from './records.ts'

export interface State extends AsyncDisposable {
  readonly projects: Table<ProjectRecord>
  readonly tokens: Table<TokenRecord>
  readonly nodes: Table<NodeRecord>
  readonly expelled: Table<ExpelledRecord>
  readonly builds: BuildHistory
  readonly steps: StepDurations
  /**
   * Runs the function in one transaction. What it throws undoes what it wrote and is thrown on.
   *
   * It blocks for the disk's sync (3 ms measured on a virtual disk). A coordinator writes a few times per
   * build, and in return no two writers ever see each other's half-done work.
   */
  write<Result>(change: () => Result): Result
}

/** Records by id. Outside `write` each change is a transaction of its own, as durable. */
export interface Table<Record> {
  get(id: string): Record | undefined
  put(id: string, record: Record): void
  remove(id: string): void
  /** In the order of their ids. */
  list(): Record[]
}

export interface BuildHistory {
  /** Adds a build, and takes the oldest away where there are too many. */
  add(build: BuildRecord): void
  get(id: string): BuildRecord | undefined
  /** @returns undefined when the build is not (or no longer) known. */
  update(id: string, change: Partial<BuildRecord>): BuildRecord | undefined
  /** Ids that begin so, two at most: enough to tell one from several. */
  startingWith(prefix: string, options: { project: string | undefined }): BuildRecord[]
  /** Newest first. */
  list(options: { project: string | undefined; limit: number }): BuildRecord[]
  unfinished(): BuildRecord[]
  /** Adds or replaces what a node says about one solve (by its ref). False: too many solves. */
  putSolve(buildId: string, nodeId: string, solve: SolveReport): boolean
  /** Solves whose nodes have not said yet what became of their cache. */
  pending(): PendingSolve[]
  /** In the order in which they began. */
  solves(buildId: string): SolveReport[]
  /** Takes away what is older than the history may be. Returns how many builds. */
  prune(nowMs: number): number
}

export interface PendingSolve {
  readonly buildId: string
  readonly nodeId: string
  readonly solve: SolveReport
}

/** What each operation of a project last took when it ran. */
export interface StepDurations {
  /** Ms, or 0 when it never ran here. */
  lastRanMs(project: string, operationDigest: string): number
  put(project: string, operationDigest: string, ranMs: number, nowMs: number): void
  /** Looks at some of the entries, going on where the last call stopped, and takes the old ones away. */
  prune(nowMs: number, options: { entriesMax: number }): number
}

export { newId } from './new-id.ts'
export { openState } from './open-state.ts'
export type {
  BuildRecord,
  ExpelledRecord,
  NodeRecord,
  ProjectRecord,
  TokenRecord,
} from './records.ts'
