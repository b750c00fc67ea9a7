/** The way from a scope's folder to a daemon that answers. */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import { connectControl, type DaemonFacts } from './control-client.ts'
import { controlGroupOf } from './control-groups.ts'
import { daemonConfig } from './daemon-config.ts'
import { type DaemonProcess, spawnDaemon } from './daemon-process.ts'
import type { HangLimits } from './hang-watch.ts'
import { daemonLaunch, hostsWith, type Launch } from './launch.ts'
import { logBytes, readLogFrom, rotateLog, saysCorrupt } from './log-file.ts'
import type { MachineClaims } from './machine-claims.ts'
import type { BridgeNetwork } from './machine-network.ts'
import type { DaemonPrograms } from './programs.ts'
import { logTailBytes, type RunningDaemon, watchDaemon, withLastWords } from './running-daemon.ts'
import { prepareScopeFolder, type ScopeFolder, setStateAside } from './scope-folder.ts'
import { refuseOldVersion } from './version.ts'

export interface StartDeps {
  readonly claims: MachineClaims
  readonly programs: DaemonPrograms
  readonly log: Logger
}

export interface StartOptions {
  readonly registry: { readonly host: string; readonly port: number }
  readonly platforms: readonly string[] | undefined
  readonly startLimitMs: number
  readonly stopLimitMs: number
  readonly logBytesMax: number
  readonly hang: HangLimits
}

/**
 * Starts a scope's daemon and waits until it answers. A state that BuildKit cannot open is set aside, once.
 * @throws HearthError `environment` with the daemon's last messages, `deadline`, `cancelled`, `version`.
 */
export async function startDaemon(
  deps: StartDeps,
  scope: Scope,
  place: ScopeFolder,
  options: StartOptions & { signal: AbortSignal },
): Promise<RunningDaemon> {
  const first = await tryStart(deps, scope, place, options)
  if (first.type === 'started') return first.daemon
  if (first.reason !== 'corrupt state') throw first.error
  const aside = await setStateAside(place)
  deps.log.error(
    { scope: scopeId(scope), error: first.error.message, aside },
    'BuildKit cannot open its state: set aside, starting with an empty one',
  )
  const second = await tryStart(deps, scope, place, options)
  if (second.type === 'started') return second.daemon
  throw second.error
}

type StartOutcome =
  | { type: 'started'; daemon: RunningDaemon }
  | { type: 'failed'; reason: 'corrupt state' | 'other'; error: HearthError }

async function tryStart(
  deps: StartDeps,
  scope: Scope,
  place: ScopeFolder,
  options: StartOptions & { signal: AbortSignal },
): Promise<StartOutcome> {
  const { claims, log } = deps
  const { startLimitMs, stopLimitMs, signal } = options
  const startedAt = performance.now()
  await prepareScopeFolder(place)
  await rotateLog(place.log, options.logBytesMax)
  const logStart = await logBytes(place.log)
  const network = await claims.claimNetwork(scope)
  const socket = path.join(claims.socketFolder, `${network.bridge}.sock`)
  let process: DaemonProcess | undefined
  try {
    const launch = await writeLaunch(deps, place, { socket, network, ...options })
    process = await spawnDaemon(launch, place.log)
    await claims.recordProcess(scope, process.identity)
    const facts = await waitForAnswer(process, socket, { limitMs: startLimitMs, signal })
    refuseOldVersion(facts.version, deps.programs.buildkitd, log)
    const tookMs = Math.round(performance.now() - startedAt)
    log.info({ scope: scopeId(scope), ...network, ...facts, tookMs }, 'BuildKit started')
    const cleanUp = (): Promise<void> => claims.releaseNetwork(scope)
    const program = deps.programs.buildkitd
    const seen = { scope, process, program, facts, socket, logFile: place.log, logStart }
    const controlGroup = controlGroupOf(network.bridge)
    const daemon = watchDaemon(
      { log, cleanUp },
      { ...seen, controlGroup, stopLimitMs, hang: options.hang },
    )
    return { type: 'started', daemon }
  } catch (thrown) {
    await process?.stop(stopLimitMs)
    await claims.releaseNetwork(scope)
    const words = await readLogFrom(place.log, logStart, logTailBytes)
    const error = toHearthError(thrown, `start BuildKit for ${scopeId(scope)}`)
    return {
      type: 'failed',
      reason: saysCorrupt(words) ? 'corrupt state' : 'other',
      error: withLastWords(error, words, error.hint ?? `its log is ${place.log}`),
    }
  }
}

/** Writes the daemon's configuration and hosts file beside its socket. */
async function writeLaunch(
  deps: StartDeps,
  place: ScopeFolder,
  request: {
    socket: string
    network: BridgeNetwork
    registry: StartOptions['registry']
    platforms: StartOptions['platforms']
  },
): Promise<Launch> {
  const { network, registry } = request
  const base = path.join(deps.claims.socketFolder, network.bridge)
  await writeFile(
    `${base}.toml`,
    daemonConfig({
      ...network,
      root: place.root,
      socket: request.socket,
      traceSocket: `${base}.trace`,
      cniFolder: deps.programs.cniFolder,
      runc: deps.programs.runc,
      controlGroup: controlGroupOf(network.bridge),
      registryHost: `${registry.host}:${registry.port}`,
      platforms: request.platforms,
    }),
  )
  await writeFile(`${base}.hosts`, hostsWith(await readFile('/etc/hosts', 'utf8'), registry.host))
  return daemonLaunch({
    buildkitd: deps.programs.buildkitd,
    configFile: `${base}.toml`,
    hostsFile: `${base}.hosts`,
    addressesFolder: place.addresses,
    temporaryFolder: place.temporary,
    networkLock: deps.claims.networkLock,
    registryHostName: registry.host,
  })
}

/** @throws HearthError `environment` as soon as the process ends instead. */
async function waitForAnswer(
  process: DaemonProcess,
  socket: string,
  options: { limitMs: number; signal: AbortSignal },
): Promise<DaemonFacts> {
  using control = connectControl(socket)
  const died = process.exited.then((cause): never => {
    throw new HearthError('environment', `BuildKit did not start: ${cause}`)
  })
  return Promise.race([control.facts(options), died])
}
