/** A plain buildkitd as anybody would start it: the peer that Hearth is measured against. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { findProgram } from '../../core/programs.ts'
import { type ManagedProcess, startProcess } from './processes.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface Buildkitd extends AsyncDisposable {
  /** `unix:///…`, for buildx and buildctl. */
  readonly address: string
  readonly root: string
  readonly process: ManagedProcess
}

/** @param options.prepare called with the root folder, before the daemon starts. */
export async function startBuildkitd(
  options: { prepare?: (root: string) => Promise<void> } = {},
): Promise<Buildkitd> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('buildkitd'))
  const root = path.join(folder.path, 'root')
  const socket = path.join(folder.path, 'buildkitd.sock')
  const configuration = path.join(folder.path, 'buildkitd.toml')
  await mkdir(root)
  await options.prepare?.(root)
  // Its own telemetry socket: the default path is one for the whole machine.
  await writeFile(
    configuration,
    [
      `[otel]\n  socketPath = "${path.join(folder.path, 'otel.sock')}"`,
      '[cdi]\n  disabled = true',
      '[worker.oci]\n  networkMode = "host"',
      '[worker.containerd]\n  enabled = false',
    ].join('\n'),
  )
  const address = `unix://${socket}`
  const process = cleanUp.use(
    await startProcess({
      command: await findProgram('buildkitd'),
      args: ['--config', configuration, '--root', root, '--addr', address],
      ready: (started) => started.output().includes('running server on'),
    }),
  )
  const owned = cleanUp.move()
  return { address, root, process, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
