/** Four stock BuildKit daemons that build the branches at the same time, and what a fifth can reuse of that. */
import { rm } from 'node:fs/promises'
import {
  type Buildkitd,
  createBuildxClient,
  runTimed,
  type S3Server,
  startBuildkitd,
} from '../../test/harness/index.ts'
import { type Branches, stepsThatRan } from './branches.ts'

export interface StockBuilders extends AsyncDisposable {
  /** On a daemon that starts with a copy of the first one's state, as one of four cloned volumes. */
  reuseOfClone(outputOf: OutputOf): Promise<number>
  /** On a fresh daemon, with BuildKit's S3 cache to which all four have written under one name. */
  reuseOfS3(outputOf: OutputOf): Promise<number>
}

/** The value of `--output` for a branch: its bytes are really wanted. */
export type OutputOf = (branch: string) => string

/** Every branch has been built by one of them when it resolves. */
export async function buildByStock(
  branches: Branches,
  s3: S3Server,
  outputOf: OutputOf,
): Promise<StockBuilders> {
  await using stack = new AsyncDisposableStack()
  const cache = [
    ...['type=s3', 'name=project', `region=${s3.region}`, `bucket=${s3.bucket}`],
    ...[`endpoint_url=${s3.endpoint}`, 'use_path_style=true'],
    ...[`access_key_id=${s3.accessKeyId}`, `secret_access_key=${s3.secretAccessKey}`],
  ].join(',')
  const daemons = await Promise.all(branches.all.map(async () => stack.use(await startBuildkitd())))
  await Promise.all(
    branches.all.map(async ({ name, folder }, each) => {
      const args = [...['--cache-from', cache], '--cache-to', `${cache},mode=max`]
      await build(daemons[each], [...args, '--output', outputOf(name), folder])
    }),
  )

  /** @returns the part of all steps of all branches that did not run. */
  async function reuse(daemon: Buildkitd, more: readonly string[], outputOf: OutputOf) {
    let ran = 0
    for (const { name, folder } of branches.all) {
      ran += stepsThatRan(await build(daemon, [...more, '--output', outputOf(name), folder]))
    }
    return 1 - ran / (branches.all.length * branches.stepsEach)
  }

  const owned = stack.move()
  return {
    async reuseOfClone(outputOf) {
      const [first] = daemons
      if (first === undefined) throw new Error('nobody has built')
      await first.process.stop()
      await using clone = await startBuildkitd({
        async prepare(root) {
          await rm(root, { recursive: true })
          const copied = await runTimed('cp', ['-a', first.root, root])
          if (copied.exitCode !== 0) throw new Error(`no copy of the state: ${copied.stderr}`)
        },
      })
      return await reuse(clone, [], outputOf)
    },
    async reuseOfS3(outputOf) {
      await using fresh = await startBuildkitd()
      return await reuse(fresh, ['--cache-from', cache], outputOf)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** @returns its progress. */
async function build(daemon: Buildkitd | undefined, args: readonly string[]): Promise<string> {
  if (daemon === undefined) throw new Error('there is no daemon for it')
  await using client = await createBuildxClient(daemon.address)
  const { exitCode, stderr } = await client.build(args)
  if (exitCode !== 0)
    throw new Error(`a build failed (exit code ${exitCode}): ${stderr.slice(-4000)}`)
  return stderr
}
