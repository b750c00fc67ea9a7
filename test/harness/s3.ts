/** A real S3 server (versitygw over a folder) with one bucket. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { findProgram } from '../../core/programs.ts'
import { freePort } from './ports.ts'
import { answersHttp, type ManagedProcess, startProcess } from './processes.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface S3Server extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`; buckets are in the path, not in the host name. */
  readonly endpoint: string
  readonly region: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly process: ManagedProcess
}

export async function startS3(): Promise<S3Server> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('s3'))
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const bucket = 'cache'
  const accessKeyId = 'hearth'
  const secretAccessKey = 'secret-of-this-process'
  const buckets = path.join(folder.path, 'buckets')
  const metadata = path.join(folder.path, 'metadata')
  await mkdir(path.join(buckets, bucket), { recursive: true })
  await mkdir(metadata)
  const server = cleanUp.use(
    await startProcess({
      command: await findProgram('versitygw'),
      args: [
        '--quiet',
        ...['--port', `127.0.0.1:${port}`, '--access', accessKeyId, '--secret', secretAccessKey],
        // Beside the files instead of in their extended attributes, which not every file system has.
        ...['posix', '--sidecar', metadata, buckets],
      ],
      ready: () => answersHttp(endpoint),
    }),
  )
  const owned = cleanUp.move()
  return {
    endpoint,
    region: 'us-east-1',
    bucket,
    accessKeyId,
    secretAccessKey,
    process: server,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
