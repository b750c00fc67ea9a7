/** The way from a scope's folder to a daemon that answers. */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import { connectControl, type DaemonFacts } from './control-client.ts'
import { controlGroupOf } from './control-groups.ts'
import { daemonConfig } from './daemon-config.ts'
import type { DaemonPoolOptions } from './daemon-pool.ts'
import { type DaemonProcess, spawnDaemon } from './daemon-process.ts'
import type { HangLimits } from './hang-watch.ts'
import { listenInside } from './inside-listener.ts'
import { daemonLaunch, hostsWith, type Launch, registryAddress } from './launch.ts'
import type { LeaseLimits } from './lease-limits.ts'
import { logBytes, readLogFrom, rotateLog, saysCorrupt } from './log-file.ts'
import type { MachineClaims } from './machine-claims.ts'
import type { DaemonNetwork } from './machine-network.ts'
import { allEnded, connectNamespace } from './network-namespace.ts'
import type { NetworkPolicies } from './network-policies.ts'
import type { DaemonPrograms } from './programs.ts'
import { type StepNews, writeRuncGuard } from './runc-guard.ts'
import { logTailBytes, type RunningDaemon, watchDaemon, withLastWords } from './running-daemon.ts'
import { prepareScopeFolder, type ScopeFolder, setStateAside } from './scope-folder.ts'
import { type StepHearer, stepAnswerMs } from './step-hearer.ts'
import { refuseOldVersion } from './version.ts'

export interface StartDeps {
  readonly claims: MachineClaims
  readonly programs: DaemonPrograms
  readonly policies: NetworkPolicies
  readonly limits: LeaseLimits
  readonly log: Logger
}

export interface StartOptions {
  readonly registry: DaemonPoolOptions['registry']
  readonly platforms: readonly string[] | undefined
  readonly steps: DaemonPoolOptions['steps']
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
  options: StartOptions & { signal: AbortSignal; onSetAside?: () => void },
): Promise<RunningDaemon> {
  const first = await tryStart(deps, scope, place, options)
  if (first.type === 'started') return first.daemon
  if (first.reason !== 'corrupt state') throw first.error
  const aside = await setStateAside(place)
  options.onSetAside?.()
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
  const connections = new AsyncDisposableStack()
  let process: DaemonProcess | undefined
  let connecting: Promise<void> | undefined
  try {
    const launch = await writeLaunch(deps, place, { socket, network, ...options })
    connections.use(await deps.limits.follow(scope, controlGroupOf(network.bridge)))
    process = await spawnDaemon(launch, place.log)
    await claims.recordProcess(scope, process.identity)
    if (options.steps !== undefined) {
      connections.use(await hearOfSteps(deps, options.steps, { scope, place, process, network }))
    }
    connecting = connect(deps, process, network, { ...options, connections })
    const [facts] = await Promise.all([
      waitForAnswer(process, socket, { limitMs: startLimitMs, signal }),
      connecting,
    ])
    refuseOldVersion(facts.version, deps.programs.buildkitd, log)
    const tookMs = Math.round(performance.now() - startedAt)
    log.info({ scope: scopeId(scope), ...network, ...facts, tookMs }, 'BuildKit started')
    const cleanUp = async (): Promise<void> => {
      await connections.disposeAsync()
      await claims.releaseNetwork(scope)
    }
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
    // What is still being made would outlive its removal.
    await connecting?.catch(() => {})
    await connections.disposeAsync()
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

/**
 * Gives a process that waits in its namespaces its network, lets it begin, and opens the loopback registry
 * for it meanwhile. Whether it resolves or rejects, nothing of it goes on afterwards.
 */
async function connect(
  deps: StartDeps,
  process: DaemonProcess,
  network: DaemonNetwork,
  options: StartOptions & { connections: AsyncDisposableStack; signal: AbortSignal },
): Promise<void> {
  const { connections, registry, signal } = options
  const { pid } = process.identity
  await Promise.race([process.inside, process.exited])

  async function join(): Promise<void> {
    const { policy } = await deps.policies.current()
    const link = await connectNamespace({ pid, network }, policy)
    connections.use(deps.policies.follow(link, resolverFileOf(deps, network)))
    process.begin()
  }

  async function serveRegistry(): Promise<void> {
    const listener = await listenInside(
      { pid, host: registryAddress, port: registry.port },
      { limitMs: options.startLimitMs, signal },
    )
    connections.use(registry.serve(listener))
  }

  await allEnded([join(), serveRegistry()])
}

/** A step's cache may stay cold for want of it, and nothing else: no reason not to start. */
async function hearOfSteps(
  deps: StartDeps,
  steps: StepHearer,
  of: { scope: Scope; place: ScopeFolder; process: DaemonProcess; network: DaemonNetwork },
): Promise<AsyncDisposable> {
  const { scope, place, process, network } = of
  const { socket, markers } = stepNewsOf(deps, place, network)
  try {
    const { root, temporary } = place
    const { pid } = process.identity
    return await steps.serve({ scope, pid, root, temporary, socket, markers })
  } catch (error) {
    deps.log.error({ scope: scopeId(scope), error }, 'the steps of a BuildKit are not heard of')
    return { [Symbol.asyncDispose]: async () => {} }
  }
}

function stepNewsOf(deps: StartDeps, place: ScopeFolder, network: DaemonNetwork): StepNews {
  return {
    socket: path.join(deps.claims.socketFolder, `${network.bridge}.steps`),
    markers: path.join(place.temporary, 'steps'),
    answerMs: stepAnswerMs,
  }
}

function resolverFileOf(deps: StartDeps, network: DaemonNetwork): string {
  return path.join(deps.claims.socketFolder, `${network.bridge}.resolv.conf`)
}

/** Writes the daemon's configuration, hosts and resolver file beside its socket. */
async function writeLaunch(
  deps: StartDeps,
  place: ScopeFolder,
  request: {
    socket: string
    network: DaemonNetwork
    registry: StartOptions['registry']
    platforms: StartOptions['platforms']
    steps: StartOptions['steps']
  },
): Promise<Launch> {
  const { network, registry } = request
  const base = path.join(deps.claims.socketFolder, network.bridge)
  const controlGroup = controlGroupOf(network.bridge)
  // Beside the state, because steps' programs run from there: a place that lets nothing run would not do.
  const runc = await writeRuncGuard(path.join(place.temporary, 'runc'), {
    runc: deps.programs.runc,
    controlGroup,
    ...(request.steps === undefined ? {} : { steps: stepNewsOf(deps, place, network) }),
  })
  await writeFile(
    `${base}.toml`,
    daemonConfig({
      bridge: network.bridge,
      subnet: network.stepSubnet,
      root: place.root,
      socket: request.socket,
      traceSocket: `${base}.trace`,
      cniFolder: deps.programs.cniFolder,
      runc,
      controlGroup,
      registryHost: `${registry.host}:${registry.port}`,
      mirrors: registry.mirrors,
      platforms: request.platforms,
    }),
  )
  const { resolver } = await deps.policies.current()
  await writeFile(resolverFileOf(deps, network), resolver.content ?? '')
  await writeFile(`${base}.hosts`, hostsWith(await readFile('/etc/hosts', 'utf8'), registry.host))
  return daemonLaunch({
    buildkitd: deps.programs.buildkitd,
    configFile: `${base}.toml`,
    hostsFile: `${base}.hosts`,
    resolverFile: resolverFileOf(deps, network),
    addressesFolder: place.addresses,
    temporaryFolder: place.temporary,
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
