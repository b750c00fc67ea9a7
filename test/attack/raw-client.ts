/** A client that keeps to no client's manners: any method with any bytes and any metadata. */
import { readFile } from 'node:fs/promises'
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'

export interface RawClient extends Disposable {
  unary(path: string, message: Uint8Array, metadata?: Record<string, string>): Promise<RawReply>
  /** All messages of a reply that ends by itself. */
  stream(path: string, message: Uint8Array, metadata?: Record<string, string>): Promise<RawReply>
  /** A call in both directions that stays open; resolves with how it ended. */
  open(path: string, metadata: Record<string, string>): { ended: Promise<RawReply>; end(): void }
}

export interface RawReply {
  /** gRPC status code; 0 is success. */
  readonly code: number
  readonly details: string
  readonly messages: Buffer[]
}

/** What it takes to be let in: paths of PEM files. */
export interface Credentials {
  readonly cacert: string
  readonly cert: string
  readonly key: string
}

const same = (bytes: Buffer): Buffer => bytes

export async function connectRaw(
  address: string,
  options: { files: Credentials; serverName: string } | 'insecure',
): Promise<RawClient> {
  const client = await makeClient(address, options)
  const metadataOf = (values: Record<string, string>): Metadata => {
    const metadata = new Metadata()
    for (const [name, value] of Object.entries(values)) metadata.set(name, value)
    return metadata
  }
  return {
    unary: (path, message, metadata = {}) =>
      new Promise((resolve) => {
        client.makeUnaryRequest(
          path,
          same,
          same,
          Buffer.from(message),
          metadataOf(metadata),
          (error, reply) =>
            resolve(
              error === null
                ? { code: 0, details: '', messages: reply === undefined ? [] : [reply] }
                : failed(error),
            ),
        )
      }),
    stream: (path, message, metadata = {}) =>
      new Promise((resolve) => {
        const messages: Buffer[] = []
        const call = client.makeServerStreamRequest(
          path,
          same,
          same,
          Buffer.from(message),
          metadataOf(metadata),
        )
        call.on('data', (reply: Buffer) => messages.push(reply))
        call.on('error', (error: ServiceError) => resolve({ ...failed(error), messages }))
        call.on('end', () => resolve({ code: 0, details: '', messages }))
      }),
    open(path, metadata) {
      const call = client.makeBidiStreamRequest(path, same, same, metadataOf(metadata))
      const ended = new Promise<RawReply>((resolve) => {
        call.on('data', () => {})
        call.on('error', (error: ServiceError) => resolve(failed(error)))
        call.on('end', () => resolve({ code: 0, details: '', messages: [] }))
      })
      // Headers go out with the first message.
      call.write(Buffer.alloc(0))
      return { ended, end: () => call.cancel() }
    },
    [Symbol.dispose]: () => client.close(),
  }
}

async function makeClient(
  address: string,
  options: { files: Credentials; serverName: string } | 'insecure',
): Promise<Client> {
  if (options === 'insecure') return new Client(address, credentials.createInsecure())
  const { cacert, key, cert } = options.files
  const [ca, privateKey, chain] = await Promise.all(
    [cacert, key, cert].map((file) => readFile(file)),
  )
  return new Client(address, credentials.createSsl(ca, privateKey, chain), {
    'grpc.ssl_target_name_override': options.serverName,
  })
}

function failed({ code, details }: ServiceError): RawReply {
  return { code, details, messages: [] }
}
