/**
 * The build proxy: the mTLS HTTP/2 front of BuildKit. Bytes pass through with flow control and without a
 * size cap. What it adds is a splice on the wire: the scope's record as a cache import. What it takes out
 * is our own line about that import in the progress. Beside each build it runs a shadow build that exports
 * the cache once the client has its answer, and it watches the steps for the report.
 */
import type { Digest } from '../../../core/digest.ts'
import type { TlsIdentity } from '../../../core/grpc-server.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { SolveReport, StepPrediction } from '../../../proto/generated/hearth/v1/build.ts'
import type { Scheduler } from '../../scheduler/index.ts'
import type { DaemonPool } from '../daemon/index.ts'
import type { Mounts } from '../mounts/index.ts'
import type { Records } from '../records/index.ts'
import type { Registry } from '../registry/index.ts'

export interface BuildProxy extends AsyncDisposable {
  /** Where clients reach it. */
  readonly host: string
  readonly port: number
  /** New connections see the new certificate; open ones stay as they are. */
  replaceIdentity(identity: TlsIdentity): void
  /** Resolves when every solve of the build that has been answered by now has been reported once. */
  reported(buildId: string, options: { signal: AbortSignal }): Promise<void>
}

export interface BuildProxyDeps {
  daemons: DaemonPool
  registry: Registry
  records: Records
  scheduler: Scheduler
  /** Hears what solves may run, for the cache mounts of their steps. Default: nobody does. */
  mounts?: Pick<Mounts, 'learn' | 'ready'> | undefined
  /** Called whenever more is known about a solve; the same ref again replaces what was said before. */
  report: (build: ReportedBuild, solve: SolveReport) => void
  /** What the build's plan says of its steps, if there is one. Default: there is none. */
  expected?: (buildId: string) => ExpectedSteps | undefined
  log: Logger
}

export interface ExpectedSteps {
  /** Digests of what the build reads from its client's folders, by the id of the request (plan/). */
  readonly contents: ReadonlyMap<string, Digest>
  /** By step key. */
  readonly predictions: ReadonlyMap<string, StepPrediction>
}

export interface ReportedBuild {
  buildId: string
  scope: Scope
}

export interface BuildProxyOptions {
  host: string
  /** 0: any free port. */
  port: number
  identity: TlsIdentity
  /** Host name under which daemons know the loopback registry, with its port. */
  registryHost: string
  /** How long exports let another build begin first; see quiet-time.ts. Default 1 s. */
  exportGraceMs?: number
}

export { createBuildProxy } from './build-proxy.ts'
