/**
 * A builder without a coordinator: every room of a node on real parts, and clients that reach its build
 * proxy with certificates of an authority made for the test. For tests that look behind the proxy.
 */
import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { openAuthority } from '../../coordinator/access/index.ts'
import { HearthError } from '../../core/errors.ts'
import { nodeServerName } from '../../core/identity.ts'
import { createLogger, silentLogger } from '../../core/log.ts'
import { findProgram } from '../../core/programs.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import { createDaemonPool, type DaemonPool } from '../../node/buildkit-runner/daemon/index.ts'
import {
  createMounts,
  type Mounts,
  type MountsOptions,
} from '../../node/buildkit-runner/mounts/index.ts'
import { createBuildProxy, type ExpectedSteps } from '../../node/buildkit-runner/proxy/index.ts'
import { createRecords, type Records } from '../../node/buildkit-runner/records/index.ts'
import { createRegistry } from '../../node/buildkit-runner/registry/index.ts'
import { type CacheStore, openCacheStore } from '../../node/cache-store/index.ts'
import { createScheduler } from '../../node/scheduler/index.ts'
import { KeepOutcome, type SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import { type CommandResult, createTemporaryFolder, runTimed } from '../harness/index.ts'

export interface Builder extends AsyncDisposable {
  readonly scope: Scope
  readonly store: CacheStore
  /** Of the loopback registry, inside the daemon's network namespace. */
  readonly registryPort: number
  readonly daemons: DaemonPool
  readonly records: Records
  readonly mounts: Mounts
  /** How clients reach BuildKit through the proxy, and past it on the same daemon. */
  readonly through: Clients
  readonly direct: Clients
  /** For clients of another make: where the proxy listens, and what it takes to be let in. */
  readonly tls: {
    address: string
    serverName: string
    files: { cacert: string; cert: string; key: string }
  }
  /** What lets a client of this build in, instead of anybody of the scope. */
  credentials(buildId: string): Promise<{ cacert: string; cert: string; key: string }>
  /** Every report so far, in order: two of each solve that left something to keep. */
  readonly reports: readonly SolveReport[]
  /** The last report of the next solve to settle (its cache is kept, or lost, or there is none). */
  settled(): Promise<SolveReport>
  /** How many containers were started whose command holds this text: how often a step really ran. */
  runs(text: string): Promise<number>
  /** Resolves when such a container has been started. */
  running(text: string): Promise<void>
  /** Of the daemon that runs at present. */
  readonly daemon: { controlGroup: string; pid(): Promise<number> }
  /** Full paths of all files in the snapshots of its BuildKit. */
  mountFiles(): Promise<string[]>
  /** Where the mounts keep what they know of those of this BuildKit. */
  readonly localMountsFolder: string
  /** Stops the daemon and deletes BuildKit's state; the cache store stays. */
  forgetBuildkit(): Promise<void>
  /** What the plan of the next builds says. */
  expected?: ExpectedSteps
  /** Called with the digests of every record right after it was composed for a solve, and what unpins them. */
  onCompose?: (digests: readonly string[], release: () => void) => void
}

export interface Clients {
  /** buildctl with these arguments after the address. */
  buildctl(args: readonly string[], options?: RunOptions): Promise<CommandResult>
  /** buildx with these arguments, on a builder that is this endpoint. */
  buildx(args: readonly string[], options?: RunOptions): Promise<CommandResult>
  /** The command line of buildctl, for tests that have to stop it. */
  buildctlCommand(args: readonly string[]): { command: string; args: string[] }
  buildxCommand(args: readonly string[]): {
    command: string
    args: string[]
    env: NodeJS.ProcessEnv
  }
}

interface RunOptions {
  cwd?: string
  env?: NodeJS.ProcessEnv
}

const registryPort = 5000

/**
 * @param options.reach services on 127.0.0.1, as "host:port", that builds are to reach.
 * @param options.storeBytes gives the cache store a file system of its own of this size.
 * @param options.slots default 8.
 * @param options.settled says when a second place has a fragment, in place of the records.
 */
export async function startBuilder(
  options: {
    reach?: readonly string[]
    storeBytes?: number
    slots?: number
    settled?: Records['settled']
    /** Of the cache mounts. */
    mounts?: Partial<MountsOptions>
  } = {},
): Promise<Builder> {
  await using cleanUp = new AsyncDisposableStack()
  const log = process.env.HEARTH_TEST_LOG ? createLogger('debug') : silentLogger
  const folder = cleanUp.use(await createTemporaryFolder('builder')).path
  const scope = makeScope('app', 'main')
  const storeFolder = path.join(folder, 'store')
  if (options.storeBytes !== undefined) {
    cleanUp.use(await mountSmall(storeFolder, options.storeBytes))
  }
  const store = cleanUp.use(await openCacheStore({ folder: storeFolder, log }))
  const records = cleanUp.use(
    await createRecords({ store, log }, { folder: path.join(folder, 'records') }),
  )
  const mounts = cleanUp.use(
    await createMounts(
      { store, log },
      { folder: path.join(folder, 'mounts'), platform: 'test', restMs: 10, ...options.mounts },
    ),
  )
  let daemons: DaemonPool | undefined
  const registry = cleanUp.use(
    await createRegistry(
      { store, log, contentFile: (owner, digest) => daemons?.contentFile(owner, digest) },
      { listen: false },
    ),
  )
  const pool = cleanUp.use(
    await createDaemonPool(
      { log },
      {
        folder: path.join(folder, 'buildkit'),
        registry: {
          host: 'hearth.cache',
          port: registryPort,
          serve: (listener) => registry.serve(listener),
        },
        reach: (options.reach ?? []).map((host) => Number(host.split(':')[1])),
        steps: mounts.steps,
        programs: { runc: await writeRuncRecorder(folder) },
      },
    ),
  )
  daemons = pool
  const scheduler = cleanUp.use(createScheduler({ log }, { slots: options.slots ?? 8 }))
  const authority = await openAuthority({ folder })
  const reports: SolveReport[] = []
  const settlements = new EventTarget()
  let looked = 0
  const proxy = cleanUp.use(
    await createBuildProxy(
      {
        daemons: pool,
        registry,
        records: {
          ...records,
          ...(options.settled === undefined ? {} : { settled: options.settled }),
          compose(owner, more) {
            const composed = records.compose(owner, more)
            builder.onCompose?.([...composed.pin.held.keys()], () => composed.pin[Symbol.dispose]())
            return composed
          },
        },
        mounts,
        scheduler,
        expected: () => builder.expected,
        report: (_build, solve) => {
          reports.push(solve)
          settlements.dispatchEvent(new Event('report'))
        },
        log,
      },
      {
        host: '127.0.0.1',
        port: 0,
        identity: await identityOf(authority, { type: 'node', nodeId: 'n1' }),
        registryHost: `hearth.cache:${registryPort}`,
        exportGraceMs: 0,
      },
    ),
  )
  const certificates = path.join(folder, 'client')
  await mkdir(certificates)
  const writeCredentials = async (name: string, buildId: string | undefined) => {
    const client = await identityOf(authority, { type: 'client', scope, buildId })
    const fileOf = (part: string): string => path.join(certificates, `${name}-${part}.pem`)
    const files = { cacert: fileOf('ca'), cert: fileOf('cert'), key: fileOf('key') }
    await writeFile(files.cacert, client.caPem)
    await writeFile(files.cert, client.certificatePem)
    await writeFile(files.key, client.privateKeyPem)
    return files
  }
  const files = await writeCredentials('standby', undefined)

  // The daemon's socket is nobody's interface but this test's: it is found where the daemon was started.
  const handle = await pool.acquire(scope, { signal: AbortSignal.timeout(60_000) })
  const { socket, controlGroup } = handle
  handle[Symbol.dispose]()

  const through = await makeClients(folder, 'through', `tcp://127.0.0.1:${proxy.port}`, {
    ...files,
    servername: nodeServerName('n1'),
  })
  const direct = await makeClients(folder, 'direct', `unix://${socket}`, {})
  const owned = cleanUp.move()
  const builder: Builder = {
    scope,
    store,
    registryPort,
    daemons: pool,
    records,
    mounts,
    through,
    direct,
    tls: { address: `127.0.0.1:${proxy.port}`, serverName: nodeServerName('n1'), files },
    credentials: (buildId) => writeCredentials(buildId, buildId),
    reports,
    settled: () =>
      new Promise((resolve) => {
        const check = (): void => {
          while (looked < reports.length) {
            const report = reports[looked++]
            if (report === undefined || report.keep === KeepOutcome.KEEP_OUTCOME_PENDING) continue
            settlements.removeEventListener('report', check)
            resolve(report)
            return
          }
        }
        settlements.addEventListener('report', check)
        check()
      }),
    runs: (text) => countRuns(folder, text),
    async running(text) {
      const limit = AbortSignal.timeout(60_000)
      while ((await countRuns(folder, text)) === 0) {
        limit.throwIfAborted()
        await delay(20)
      }
    },
    async mountFiles() {
      const all = path.join(folder, 'buildkit/app/main/root/runc-overlayfs/snapshots/snapshots')
      const names = await readdir(all, { recursive: true }).catch(() => [])
      return names.map((name) => path.join(all, name))
    },
    localMountsFolder: path.join(folder, 'mounts/local'),
    daemon: { controlGroup, pid: () => findDaemon(socket) },
    async forgetBuildkit() {
      // The last connection lets go of the daemon a moment after its build has settled.
      const limit = AbortSignal.timeout(30_000)
      while (!(await resetUnlessBusy(pool, scope))) {
        limit.throwIfAborted()
        await delay(20)
      }
      const again = await pool.acquire(scope, { signal: AbortSignal.timeout(60_000) })
      again[Symbol.dispose]()
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  return builder
}

async function mountSmall(folder: string, bytes: number): Promise<AsyncDisposable> {
  await mkdir(folder)
  const mounted = await runTimed('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder])
  if (mounted.exitCode !== 0) throw new Error(`no small file system: ${mounted.stderr}`)
  return {
    async [Symbol.asyncDispose]() {
      await runTimed('umount', ['--lazy', folder])
    },
  }
}

/** buildkitd itself, by the configuration file beside its socket. */
async function findDaemon(socket: string): Promise<number> {
  const config = `${socket.slice(0, -'.sock'.length)}.toml`
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const words = line.split('\0')
    if (path.basename(words[0] ?? '') === 'buildkitd' && words.includes(config)) return Number(pid)
  }
  throw new Error('no BuildKit is running')
}

/** Takes runc's place, notes what is about to run, and becomes runc. */
async function writeRuncRecorder(folder: string): Promise<string> {
  const file = path.join(folder, 'runc')
  const script = [
    '#!/bin/sh',
    'for word; do',
    // One line per container: the bundle's configuration is one line of JSON.
    `  case $before in --bundle|-b) { tr -d '\\n' <"$word/config.json"; echo; } >>'${folder}/runs';; esac`,
    '  before=$word',
    'done',
    `exec '${await findProgram('runc')}' "$@"`,
  ]
  await writeFile(file, script.join('\n'), { mode: 0o755 })
  await writeFile(path.join(folder, 'runs'), '')
  return file
}

async function resetUnlessBusy(pool: DaemonPool, scope: Scope): Promise<boolean> {
  try {
    await pool.reset(scope)
    return true
  } catch (error) {
    if (error instanceof HearthError && error.code === 'unavailable') return false
    throw error
  }
}

async function countRuns(folder: string, text: string): Promise<number> {
  const lines = (await readFile(path.join(folder, 'runs'), 'utf8')).split('\n')
  return lines.filter((line) => line.includes(text)).length
}

async function identityOf(
  authority: Awaited<ReturnType<typeof openAuthority>>,
  identity: Parameters<typeof authority.issue>[0],
) {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' })
  const { certificatePem } = await authority.issue(identity, publicKey, 60 * 60_000)
  const privateKeyPem = String(keys.privateKey.export({ type: 'pkcs8', format: 'pem' }))
  return { certificatePem, privateKeyPem, caPem: authority.caPem }
}

async function makeClients(
  folder: string,
  name: string,
  address: string,
  tls: Record<string, string>,
): Promise<Clients> {
  const buildctl = await findProgram('buildctl')
  const buildx = await findProgram('buildx')
  const home = path.join(folder, name)
  await mkdir(home)
  const env = {
    ...process.env,
    BUILDX_CONFIG: path.join(home, 'buildx'),
    DOCKER_CONFIG: path.join(home, 'docker'),
    BUILDX_BUILDER: name,
  }
  const options = Object.entries(tls).map(([key, value]) => `${key}=${value}`)
  const created = await runTimed(
    buildx,
    [
      ...['create', '--name', name, '--driver', 'remote'],
      ...options.flatMap((option) => ['--driver-opt', option]),
      address,
    ],
    { env },
  )
  if (created.exitCode !== 0) throw new Error(`buildx takes no ${address}: ${created.stderr}`)
  const flags = {
    cacert: '--tlscacert',
    cert: '--tlscert',
    key: '--tlskey',
    servername: '--tlsservername',
  }
  const tlsFlags = Object.entries(tls).flatMap(([key, value]) => [
    flags[key as keyof typeof flags],
    value,
  ])
  const buildctlCommand = (args: readonly string[]) => ({
    command: buildctl,
    args: ['--addr', address, ...tlsFlags, ...args],
  })
  const buildxCommand = (args: readonly string[]) => ({ command: buildx, args: [...args], env })
  return {
    buildctlCommand,
    buildxCommand,
    buildctl(args, { env: more, ...rest } = {}) {
      const { command, args: all } = buildctlCommand(args)
      return runTimed(command, all, { env: { ...process.env, ...more }, ...rest })
    },
    buildx: (args, { env: more, ...rest } = {}) =>
      runTimed(buildx, args, { env: { ...env, ...more }, ...rest }),
  }
}
