/** A real S3 server (versitygw over a folder) with one bucket. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { findProgram } from '../../core/programs.ts'
import { freePort } from './ports.ts'
import { acceptsConnections, answersHttp, type ManagedProcess, startProcess } from './processes.ts'
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

export interface S3Options {
  /** Where it keeps everything, for one that is started again. Default: a temporary folder of its own. */
  folder?: string
  /** Default: any free port. */
  port?: number
  /** Files in PEM; it then speaks https, and nobody trusts it by default. */
  tls?: { certificate: string; key: string }
}

export async function startS3(options: S3Options = {}): Promise<S3Server> {
  const { tls } = options
  await using cleanUp = new AsyncDisposableStack()
  const folder =
    options.folder === undefined
      ? cleanUp.use(await createTemporaryFolder('s3')).path
      : options.folder
  const port = options.port ?? (await freePort())
  const endpoint = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`
  const bucket = 'cache'
  const accessKeyId = 'hearth'
  const secretAccessKey = 'secret-of-this-process'
  const buckets = path.join(folder, 'buckets')
  const metadata = path.join(folder, 'metadata')
  await mkdir(path.join(buckets, bucket), { recursive: true })
  await mkdir(metadata, { recursive: true })
  const server = cleanUp.use(
    await startProcess({
      command: await findProgram('versitygw'),
      args: [
        '--quiet',
        ...['--port', `127.0.0.1:${port}`, '--access', accessKeyId, '--secret', secretAccessKey],
        ...(tls === undefined ? [] : ['--cert', tls.certificate, '--key', tls.key]),
        // Beside the files instead of in their extended attributes, which not every file system has.
        ...['posix', '--sidecar', metadata, buckets],
      ],
      ready: () => (tls === undefined ? answersHttp(endpoint) : acceptsConnections(port)),
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
