/**
 * A coordinator and several builder nodes as real processes on this machine, each in a data folder of its own:
 * what tests of the mesh run against. Any of them can be stopped, killed, frozen and started again.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { daemonNodeFlags } from '../../cli/daemon/node-flags.ts'
import { exitCodes } from '../../cli/exit-codes.ts'
import { openAuthority } from '../../coordinator/access/index.ts'
import { nodeServerName } from '../../core/identity.ts'
import { findProgram } from '../../core/programs.ts'
import { mainLine, makeScope } from '../../core/scope.ts'
import { claimsFolder, claimsOf } from './claims.ts'
import { runTimed } from './commands.ts'
import {
  createHearthClient,
  type HearthBuild,
  type HearthClient,
  type HearthRunOptions,
  hearthEnvironment,
  launcher,
} from './hearth-client.ts'
import { type ManagedProcess, startProcess } from './processes.ts'
import type { S3Server } from './s3.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface MeshOptions {
  nodes: number
  /** By node; undefined: the machine's own platform. */
  platforms?: readonly (string | undefined)[]
  /** Behind all nodes, below one prefix of its bucket. Its owner stops it. */
  s3?: S3Server
  /** Of each node; default: as the machine allows. */
  slots?: number
  /** Services on 127.0.0.1, as "host:port", that builds are to reach: an upstream registry's. */
  reach?: readonly string[]
  /** Further variables for all processes. */
  env?: NodeJS.ProcessEnv
}

/** The client's verbs go to the coordinator, as its operator. */
export interface TestMesh extends HearthClient, AsyncDisposable {
  readonly coordinator: MeshPart & {
    /** "host:port". */
    readonly address: string
  }
  /** In the order in which they were added. */
  readonly nodes: readonly MeshNode[]
  /** One more, with an empty store. */
  addNode(options?: { platform?: string }): Promise<MeshNode>
  /** What `hearth nodes --json` says of all that it knows. */
  listNodes(): Promise<ListedNode[]>
}

/** A process of the mesh. Its data folder outlives it. */
export interface MeshPart {
  readonly dataFolder: string
  /** Ends it in an orderly way. */
  stop(): Promise<void>
  /** Ends it as a power cut would: by SIGKILL. */
  kill(): Promise<void>
  /** Over the same data folder; resolves when it is ready. A node is not before the coordinator has heard of it. */
  start(): Promise<void>
  /** Like `start`, without waiting for it to be ready: for a node whose coordinator is away. */
  launch(): Promise<void>
  /** It says nothing any more, and its connections stay open. */
  freeze(): void
  thaw(): void
  running(): boolean
  pid(): number
  /** What it has logged in this life. */
  log(): string
}

export interface MeshNode extends MeshPart {
  readonly id: string
  /**
   * `buildx build ARGS` straight to this node, whatever the coordinator would choose and whether or not it is
   * there. Plain progress is on standard error; `settled` takes the build's id once the node has reported it.
   */
  build(
    args: readonly string[],
    options?: HearthRunOptions & { project?: string; line?: string },
  ): Promise<HearthBuild & { buildId: string }>
  /** `unix:///…` of its running BuildKit that builds this project's main line. */
  buildkitAddress(project: string): Promise<string>
  /** While stopped: deletes what BuildKit itself keeps, and nothing of the cache store. */
  deleteBuildkitState(): Promise<void>
}

/** The parts of `hearth nodes --json` that tests read. */
export interface ListedNode {
  id: string
  name: string
  platform: string
  /** "host:port" of its build proxy. */
  address: string
  online: boolean
  peerId: string
  inMesh: boolean
  load?: {
    slots: number
    cacheBytes: number
    projects?: { project: string; heldBytes: number; hotSteps: number; heldSteps: number }[]
  }
}

const readyWithinMs = 120_000
const stopWithinMs = 60_000

export async function startMesh(options: MeshOptions): Promise<TestMesh> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('mesh')).path
  const dataFolder = path.join(folder, 'coordinator')
  const { s3, reach = [] } = options
  const env = {
    ...(await hearthEnvironment(path.join(folder, 'home'), { dataFolder, reach })),
    ...(s3 === undefined ? {} : credentialsOf(s3)),
    ...options.env,
  }
  const client = createHearthClient(env)
  let listen = '127.0.0.1:0'
  let caFile = ''
  const coordinator = createPart({
    dataFolder,
    env,
    args: () => ['coordinator', '--listen', listen],
    ready: /"joinToken": ?"/,
  })
  cleanUp.defer(coordinator.stop)
  await coordinator.start()
  // The same port in each life, so that nodes and clients find it again.
  listen = required(/"address": ?"([^"]+)",? *\n? *"joinAddress"/, coordinator.log())
  caFile = required(/"caFile": ?"([^"]+)"/, coordinator.log())

  const nodes: MeshNode[] = []
  // Also of the nodes that are added once the mesh has been handed out.
  const parts = cleanUp.use(new AsyncDisposableStack())
  const listNodes = async (): Promise<ListedNode[]> => {
    const { exitCode, stdout, stderr } = await client.run(['nodes', '--json'])
    if (exitCode !== 0) throw new Error(`no list of nodes: ${stderr}`)
    return (JSON.parse(stdout) as { nodes: ListedNode[] }).nodes
  }

  async function addNode(more: { platform?: string } = {}): Promise<MeshNode> {
    const own = path.join(folder, `node-${nodes.length + 1}`)
    const { stdout: token } = await client.run(['tokens', 'create', '--join'])
    const part = createPart({
      dataFolder: own,
      env: { ...env, HEARTH_JOIN_TOKEN: token.trim() },
      args: () => [
        ...['node', '--listen', '127.0.0.1:0', '--join', listen, '--ca', caFile],
        ...(options.slots === undefined ? [] : ['--slots', `${options.slots}`]),
        ...(more.platform === undefined ? [] : ['--platform', more.platform]),
        ...(s3 === undefined
          ? []
          : ['--s3', `s3://${s3.bucket}/mesh`, '--s3-endpoint', s3.endpoint]),
      ],
      ready: /"nodeId": ?"/,
    })
    parts.defer(part.stop)
    await part.start()
    const id = required(/"nodeId": ?"([^"]+)"/, part.log())
    let address = ''
    let buildkitFolder: string | undefined
    const findAddress = async (): Promise<void> => {
      address = (await listNodes()).find((node) => node.id === id)?.address ?? ''
    }
    await findAddress()
    const node: MeshNode = {
      ...part,
      id,
      async start() {
        await part.start()
        await findAddress()
      },
      async stop() {
        buildkitFolder = (await claimsOf(own))[0]?.folder ?? buildkitFolder
        await part.stop()
      },
      async build(args, { project = 'app', line = mainLine, ...run } = {}) {
        const buildId = `direct-${randomBytes(8).toString('hex')}`
        const place = path.join(folder, buildId)
        const coordinatorFolder = path.join(dataFolder, 'coordinator')
        const scope = makeScope(project, line)
        const endpoint = { address, serverName: nodeServerName(id) }
        const builder = await createBuilder(place, coordinatorFolder, { endpoint, scope, buildId })
        const result = await runTimed(builder.program, ['build', '--progress', 'plain', ...args], {
          ...run,
          env: builder.env,
        })
        return { ...result, buildId }
      },
      async buildkitAddress(project) {
        const [pool] = await claimsOf(own)
        const bridge = pool?.daemons.find(({ scope }) => scope === `${project}/${mainLine}`)?.bridge
        if (pool === undefined || bridge === undefined) {
          throw new Error(`no BuildKit of ${project} is running in ${own}`)
        }
        return `unix://${path.join(claimsFolder, pool.id, `${bridge}.sock`)}`
      },
      async deleteBuildkitState() {
        if (part.running()) throw new Error('the node is still running')
        if (buildkitFolder === undefined) throw new Error('no BuildKit has run here')
        await rm(buildkitFolder, { recursive: true })
      },
    }
    nodes.push(node)
    return node
  }

  for (let index = 0; index < options.nodes; index += 1) {
    const platform = options.platforms?.[index]
    await addNode(platform === undefined ? {} : { platform })
  }

  const owned = cleanUp.move()
  return {
    ...client,
    async settled(buildId) {
      const deadline = AbortSignal.timeout(readyWithinMs)
      // A node that was reached directly reports a build that the coordinator has never heard of.
      while ((await client.run(['build-info', buildId])).exitCode === exitCodes.notFound) {
        if (deadline.aborted) break
        await delay(100)
      }
      return await client.settled(buildId)
    },
    coordinator: { ...coordinator, address: listen },
    nodes,
    addNode,
    listNodes,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function createPart(options: {
  dataFolder: string
  env: NodeJS.ProcessEnv
  args(): string[]
  ready: RegExp
}): MeshPart {
  let current: ManagedProcess | undefined
  const present = (): ManagedProcess => {
    if (current === undefined) throw new Error('it has not been started')
    return current
  }
  const begin = async (ready: boolean): Promise<void> => {
    if (current?.running() === true) throw new Error('it is running already')
    current = await startProcess({
      command: process.execPath,
      args: [
        ...[...daemonNodeFlags, launcher, ...options.args()],
        ...['--data', options.dataFolder, '--json'],
      ],
      env: options.env,
      ...(ready ? { ready: ({ output }) => options.ready.test(output()), readyWithinMs } : {}),
    })
  }
  return {
    dataFolder: options.dataFolder,
    start: () => begin(true),
    launch: () => begin(false),
    async stop() {
      if (current?.running() !== true) return
      // A frozen process does not hear that it is to stop.
      process.kill(current.pid, 'SIGCONT')
      await current.stop({ limitMs: stopWithinMs })
    },
    async kill() {
      await present().stop({ signal: 'SIGKILL' })
    },
    freeze: () => void process.kill(present().pid, 'SIGSTOP'),
    thaw: () => void process.kill(present().pid, 'SIGCONT'),
    running: () => current?.running() ?? false,
    pid: () => present().pid,
    log: () => current?.output() ?? '',
  }
}

/** A buildx that knows one node and may build there, by a certificate of the coordinator's own authority. */
async function createBuilder(
  place: string,
  coordinatorFolder: string,
  options: {
    endpoint: { address: string; serverName: string }
    scope: { project: string; line: string }
    buildId: string
  },
): Promise<{ program: string; env: NodeJS.ProcessEnv }> {
  const { endpoint, scope, buildId } = options
  const authority = await openAuthority({ folder: coordinatorFolder })
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { certificatePem } = await authority.issue(
    { type: 'client', scope: makeScope(scope.project, scope.line), buildId },
    publicKey.export({ type: 'spki', format: 'der' }),
    60 * 60_000,
  )
  await mkdir(place)
  const files = { cacert: 'ca.pem', cert: 'certificate.pem', key: 'key.pem' }
  const inPlace = (name: string): string => path.join(place, name)
  await writeFile(inPlace(files.cacert), authority.caPem)
  await writeFile(inPlace(files.cert), certificatePem)
  await writeFile(inPlace(files.key), privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const program = await findProgram('buildx')
  const env = {
    ...process.env,
    BUILDX_CONFIG: inPlace('buildx'),
    DOCKER_CONFIG: inPlace('docker'),
    BUILDX_BUILDER: 'node',
  }
  const driverOptions = [
    ...Object.entries(files).map(([name, file]) => `${name}=${inPlace(file)}`),
    `servername=${endpoint.serverName}`,
  ].flatMap((option) => ['--driver-opt', option])
  const create = ['create', '--name', 'node', '--driver', 'remote', ...driverOptions]
  const created = await runTimed(program, [...create, `tcp://${endpoint.address}`], { env })
  if (created.exitCode !== 0) {
    throw new Error(`buildx takes no ${endpoint.address}: ${created.stderr}`)
  }
  return { program, env }
}

function credentialsOf(s3: S3Server): NodeJS.ProcessEnv {
  return {
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    AWS_REGION: s3.region,
    AWS_EC2_METADATA_DISABLED: 'true',
  }
}

function required(pattern: RegExp, text: string): string {
  const found = pattern.exec(text)?.[1]
  if (found === undefined) throw new Error(`it did not say ${pattern}:\n${text.slice(-2000)}`)
  return found
}
