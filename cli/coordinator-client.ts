/** The coordinator, as client verbs talk to it. */
import { Client, credentials, Metadata, type requestCallback } from '@grpc/grpc-js'
import { HearthError, toHearthError } from '../core/errors.ts'
import { callStream, callUnary, channelOptions } from '../core/grpc-call.ts'
import { coordinatorServerName } from '../core/identity.ts'
import type { Connection } from './connection.ts'

/** A method of a generated service definition, for example `BuildsService.openBuild`. */
export interface Method<Request, Reply> {
  readonly path: string
  readonly requestSerialize: (request: Request) => Buffer
  readonly responseDeserialize: (bytes: Buffer) => Reply
}

export interface CoordinatorClient extends Disposable {
  /** Makes one call. @throws HearthError with the code the coordinator gave, `unavailable` or `deadline`. */
  call<Request, Reply>(
    method: Method<Request, Reply> & { readonly responseStream: false },
    request: Request,
    options: { signal: AbortSignal; timeoutMs?: number },
  ): Promise<Reply>
  /** Reads one stream to its end; leaving the loop cancels the call. @throws as `call`. */
  stream<Request, Reply>(
    method: Method<Request, Reply> & { readonly responseStream: true },
    request: Request,
    options: { signal: AbortSignal; timeoutMs: number },
  ): AsyncIterable<Reply>
}

export function connectCoordinator(
  connection: Pick<Connection, 'address' | 'token' | 'caPem'>,
): CoordinatorClient {
  const client = new Client(
    connection.address,
    credentials.createSsl(Buffer.from(connection.caPem)),
    {
      ...channelOptions,
      // A coordinator's certificate carries this name, whatever address it is reached at.
      'grpc.ssl_target_name_override': coordinatorServerName,
      'grpc.default_authority': coordinatorServerName,
    },
  )
  const doing = `reach the coordinator at ${connection.address}`
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${connection.token}`)

  return {
    async call(method, request, options) {
      try {
        return await callUnary(
          doing,
          (sent, callOptions, done) =>
            client.makeUnaryRequest(
              method.path,
              method.requestSerialize,
              method.responseDeserialize,
              request,
              sent,
              callOptions,
              done as requestCallback<ReturnType<typeof method.responseDeserialize>>,
            ),
          { ...options, metadata },
        )
      } catch (error) {
        throw explain(error, doing)
      }
    },
    async *stream(method, request, options) {
      try {
        yield* callStream(
          doing,
          (sent, callOptions) =>
            client.makeServerStreamRequest(
              method.path,
              method.requestSerialize,
              method.responseDeserialize,
              request,
              sent,
              callOptions,
            ),
          { ...options, metadata },
        )
      } catch (error) {
        throw explain(error, doing)
      }
    },
    [Symbol.dispose]() {
      client.close()
    },
  }
}

/**
 * What the coordinator answered stays as it is. Where it was not reached, the library's own words hide the
 * reason in the middle, and know nothing of what to do.
 */
function explain(error: unknown, doing: string): HearthError {
  const known = toHearthError(error)
  const { code, message } = known
  if (code === 'deadline' && message.startsWith('Deadline exceeded')) {
    const hint = 'is it running, and can this machine reach it?'
    return new HearthError(code, `cannot ${doing}: no answer in time`, { hint, cause: error })
  }
  if (code === 'unavailable' && message.startsWith(`cannot ${doing}`)) {
    const reason = /Last error: (?:Error: )?(.*?)\.? Resolution note/.exec(message)?.[1]
    const hint = 'is it running? ("hearth up" starts one on this machine)'
    const said = reason === undefined ? message : `cannot ${doing}: ${reason}`
    return new HearthError(code, said, { hint, cause: error })
  }
  if (code === 'unauthenticated' && known.hint === undefined) {
    const hint = 'use a token of this coordinator ("hearth login", or HEARTH_TOKEN)'
    return new HearthError(code, message, { hint, cause: error })
  }
  return known
}
