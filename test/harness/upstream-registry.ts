/** The registry that images are pulled from and pushed to: Debian's docker-registry on 127.0.0.1. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { freePort } from './ports.ts'
import { answersHttp, type ManagedProcess, startProcess } from './processes.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface UpstreamRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`, the first component of image names; every tool takes it without TLS. */
  readonly host: string
  readonly url: string
  readonly process: ManagedProcess
}

export async function startUpstreamRegistry(): Promise<UpstreamRegistry> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('registry'))
  const port = await freePort()
  const host = `127.0.0.1:${port}`
  const storage = path.join(folder.path, 'data')
  const configuration = path.join(folder.path, 'config.json')
  await mkdir(storage)
  // JSON is YAML.
  await writeFile(
    configuration,
    JSON.stringify({
      version: 0.1,
      log: { level: 'warn', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: storage }, delete: { enabled: true } },
      http: { addr: host, secret: 'one process, one secret' },
    }),
  )
  const process = cleanUp.use(
    await startProcess({
      command: 'docker-registry',
      args: ['serve', configuration],
      ready: () => answersHttp(`http://${host}/v2/`),
    }),
  )
  const owned = cleanUp.move()
  return {
    host,
    url: `http://${host}`,
    process,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
