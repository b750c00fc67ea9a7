/** What the coordinator does by itself, now and then. No part of it keeps another from its turn. */
import type { GrpcServer } from '../core/grpc-server.ts'
import type { Logger } from '../core/log.ts'
import type { Authority, Tokens } from './access/index.ts'
import { endLostBuilds, endSilentCaches, type LostBuildWatch } from './builds/index.ts'
import { coordinatorCertificateMs } from './limits.ts'
import type { NodeControlPool, NodeDirectory } from './nodes/index.ts'
import type { State } from './state/index.ts'

export interface UpkeepDeps {
  state: State
  tokens: Tokens
  authority: Authority
  directory: NodeDirectory
  control: NodeControlPool
  server: GrpcServer
  log: Logger
}

const usualIntervalMs = 60_000
/** A bounded look at each turn, so that no turn holds up the calls. */
const stepsLookedAt = 1_000

export function startUpkeep(
  deps: UpkeepDeps,
  options: { identity: { expiresAtMs: number }; now: () => number; intervalMs?: number },
): AsyncDisposable {
  const stopped = new AbortController()
  const watch: LostBuildWatch = new Set()
  let { expiresAtMs } = options.identity
  let turn: Promise<void> = Promise.resolve()
  let isRunning = false

  const chores: readonly [string, (nowMs: number) => unknown][] = [
    ['note when nodes were seen', () => deps.directory.keep()],
    ['forget expired join tokens', () => deps.tokens.prune()],
    ['take old builds away', (nowMs) => deps.state.builds.prune(nowMs)],
    [
      'take old durations away',
      (nowMs) => deps.state.steps.prune(nowMs, { entriesMax: stepsLookedAt }),
    ],
    ['end lost builds', (nowMs) => endLostBuilds(deps, watch, { nowMs, signal: stopped.signal })],
    ['give up silent caches', (nowMs) => endSilentCaches(deps, nowMs)],
    ["renew the coordinator's certificate", renew],
  ]

  async function renew(nowMs: number): Promise<void> {
    if (expiresAtMs - nowMs > (coordinatorCertificateMs * 2) / 3) return
    const identity = await deps.authority.issueOwn()
    deps.server.replaceIdentity(identity)
    deps.control.replaceIdentity(identity)
    expiresAtMs = identity.expiresAtMs
    deps.log.info("renewed the coordinator's certificate")
  }

  async function work(): Promise<void> {
    for (const [name, chore] of chores) {
      if (stopped.signal.aborted) return
      try {
        await chore(options.now())
      } catch (error) {
        deps.log.error({ error, chore: name }, 'a chore failed')
      }
    }
  }

  const timer = setInterval(() => {
    if (isRunning) return
    isRunning = true
    turn = work().finally(() => {
      isRunning = false
    })
  }, options.intervalMs ?? usualIntervalMs)

  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      stopped.abort()
      await turn
    },
  }
}
