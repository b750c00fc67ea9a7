/**
 * BuildKit's own caches, as a CI with fresh builders uses them: a stock builder fills them once, and each measured
 * build has a stock builder that has never seen anything.
 */
import path from 'node:path'
import {
  createBuildxClient,
  createTemporaryFolder,
  runTimed,
  type S3Server,
  startBuildkitd,
} from '../../test/harness/index.ts'

export const nativeCaches = ['registry cache', 's3 cache', 'local cache'] as const
export type NativeCache = (typeof nativeCaches)[number]

export interface NativeContestants extends AsyncDisposable {
  /** What the first build took, which had no cache. */
  readonly withoutCacheS: number
  /** In seconds, on a builder that has just been started, with nothing but this cache. */
  build(cache: NativeCache, args: readonly string[]): Promise<number>
}

export interface NativeOptions {
  registryHost: string
  s3: S3Server
  /** Those that are to be filled. Default: all. */
  caches?: readonly NativeCache[]
  /** The workload's, with an output for each contestant. */
  argsOf: (who: string) => readonly string[]
  say: (line: string) => void
}

export async function fillNativeCaches(options: NativeOptions): Promise<NativeContestants> {
  const { registryHost, s3, argsOf, say } = options
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('local-cache')).path
  const s3Place = [
    ...['type=s3', 'name=fresh-node', `region=${s3.region}`, `bucket=${s3.bucket}`],
    ...[`endpoint_url=${s3.endpoint}`, 'use_path_style=true'],
    ...[`access_key_id=${s3.accessKeyId}`, `secret_access_key=${s3.secretAccessKey}`],
  ].join(',')
  const places: Record<NativeCache, { from: string; to: string }> = {
    'registry cache': {
      from: `type=registry,ref=${registryHost}/cache:fresh-node`,
      to: `type=registry,ref=${registryHost}/cache:fresh-node`,
    },
    's3 cache': { from: s3Place, to: s3Place },
    'local cache': {
      from: `type=local,src=${path.join(folder, 'cache')}`,
      to: `type=local,dest=${path.join(folder, 'cache')}`,
    },
  }

  const withoutCacheS = await onFreshBuilder(async (build) => {
    const seconds = await build(argsOf('no cache'))
    say(`no cache: ${seconds.toFixed(2)} s`)
    for (const cache of options.caches ?? nativeCaches) {
      // Its image is there too, as after any earlier build of the project.
      await build(['--cache-to', `${places[cache].to},mode=max`, ...argsOf(cache)])
    }
    return seconds
  })

  const owned = cleanUp.move()
  return {
    withoutCacheS,
    build: (cache, args) =>
      onFreshBuilder((build) => build(['--cache-from', places[cache].from, ...args])),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function onFreshBuilder(
  use: (build: (args: readonly string[]) => Promise<number>) => Promise<number>,
): Promise<number> {
  await using daemon = await startBuildkitd()
  await using client = await createBuildxClient(daemon.address)
  return await use(async (args) => {
    await runTimed('sync', [])
    const { exitCode, stderr, seconds } = await client.build(args)
    if (exitCode === 0) return seconds
    throw new Error(`buildx build failed (exit code ${exitCode}):\n${stderr.slice(-4000)}`)
  })
}
