/**
 * Where a measurement takes place: a Hearth of its own, an upstream registry, and the two ways to build that
 * are compared again and again, through Hearth and by buildx straight to the very same buildkitd.
 */
import {
  type BuildxClient,
  type CommandResult,
  createBuildxClient,
  type Hearth,
  type HearthClient,
  runTimed,
  startHearth,
  startUpstreamRegistry,
  type UpstreamRegistry,
} from '../test/harness/index.ts'
import { type MeshNode, startMesh, type TestMesh } from '../test/harness/mesh.ts'

export interface Site extends Place {
  readonly hearth: Hearth
}

/** A coordinator and one node, as processes of their own; further nodes may be added. */
export interface MeshSite extends Place {
  readonly mesh: TestMesh
  readonly first: MeshNode
}

interface Place extends AsyncDisposable {
  readonly registry: UpstreamRegistry
  /** By `hearth build`. */
  readonly throughHearth: Builder
  /** By buildx to the socket of the buildkitd that Hearth runs; there is one after the first build. */
  direct(): Promise<Builder>
  /** `--output` that pushes the image as `NAME:TAG` to the registry, so that its bytes are really wanted. */
  pushArgs(name: string, tag?: string): string[]
}

export interface Builder {
  readonly who: string
  /**
   * Builds to the end and waits until nothing of it goes on in the background.
   * @throws Error with the last output when the build fails.
   */
  build(args: readonly string[]): Promise<Built>
  /** The same, for a build that another follows at once: waits for nothing before and nothing after. */
  buildAtOnce(args: readonly string[]): Promise<Built>
}

export interface Built {
  /** What the client waited. */
  seconds: number
  /** The progress as it was shown. */
  progress: string
  /** Undefined for a direct build. */
  buildId: string | undefined
}

export const project = 'bench'

/** @param options.reach further services on 127.0.0.1, as "host:port", that BuildKit is to reach. */
export async function startSite(options: { reach?: readonly string[] } = {}): Promise<Site> {
  await using cleanUp = new AsyncDisposableStack()
  const registry = cleanUp.use(await startUpstreamRegistry())
  const hearth = cleanUp.use(
    await startHearth({ reach: [registry.host, ...(options.reach ?? [])] }),
  )
  const place = createPlace(registry, hearth, () => hearth.buildkitAddress(project))
  const owned = cleanUp.move()
  owned.use(place)
  return { ...place, hearth, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

export async function startMeshSite(): Promise<MeshSite> {
  await using cleanUp = new AsyncDisposableStack()
  const registry = cleanUp.use(await startUpstreamRegistry())
  const mesh = cleanUp.use(await startMesh({ nodes: 1, reach: [registry.host] }))
  const [first] = mesh.nodes
  if (first === undefined) throw new Error('a mesh of one node has a node')
  const place = createPlace(registry, mesh, () => first.buildkitAddress(project))
  const owned = cleanUp.move()
  owned.use(place)
  return { ...place, mesh, first, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

function createPlace(
  registry: UpstreamRegistry,
  hearth: HearthClient,
  buildkitAddress: () => Promise<string>,
): Place {
  const owned = new AsyncDisposableStack()
  let client: BuildxClient | undefined
  const hearthBuild = async (args: readonly string[]): Promise<Built & { buildId: string }> => {
    const result = await hearth.build(['--project', project, ...args])
    expectSuccess('hearth build', result)
    if (result.buildId === undefined) throw new Error('the build has no report')
    return { seconds: result.seconds, progress: result.stderr, buildId: result.buildId }
  }
  return {
    registry,
    throughHearth: {
      who: 'hearth',
      async build(args) {
        await runTimed('sync', [])
        const built = await hearthBuild(args)
        await hearth.settled(built.buildId)
        return built
      },
      buildAtOnce: hearthBuild,
    },
    async direct() {
      client ??= owned.use(await createBuildxClient(await buildkitAddress()))
      const buildx = client
      const buildAtOnce = async (args: readonly string[]): Promise<Built> => {
        const result = await buildx.build(args)
        expectSuccess('buildx build', result)
        return { seconds: result.seconds, progress: result.stderr, buildId: undefined }
      }
      return {
        who: 'buildx direct',
        async build(args) {
          await runTimed('sync', [])
          return buildAtOnce(args)
        },
        buildAtOnce,
      }
    },
    pushArgs: (name, tag = 'dev') => [
      '--output',
      `type=image,name=${registry.host}/${name}:${tag},push=true`,
    ],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/**
 * A build sent straight to one node, whatever the coordinator would choose.
 * @throws Error with the last output when it fails.
 */
export async function buildOn(node: MeshNode, args: readonly string[]): Promise<Built> {
  await runTimed('sync', [])
  const result = await node.build(args, { project })
  expectSuccess('buildx build', result)
  return { seconds: result.seconds, progress: result.stderr, buildId: result.buildId }
}

function expectSuccess(what: string, result: CommandResult): void {
  if (result.exitCode === 0) return
  throw new Error(`${what} failed (exit code ${result.exitCode}):\n${result.stderr.slice(-4000)}`)
}
