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

/** The library's own words for a connection that failed hide the reason in the middle. */
function explain(error: unknown, doing: string): HearthError {
  const known = toHearthError(error)
  if (known.code === 'deadline') {
    return new HearthError('deadline', `cannot ${doing}: no answer in time`, {
      hint: known.hint ?? 'is it running, and can this machine reach it?',
      cause: error,
    })
  }
  const reason = /Last error: (?:Error: )?(.*?)\.? Resolution note/.exec(known.message)?.[1]
  if (known.code === 'unavailable' && known.hint === undefined) {
    return new HearthError(
      'unavailable',
      `cannot ${doing}${reason === undefined ? '' : `: ${reason}`}`,
      {
        hint: 'is it running? ("hearth up" starts one on this machine)',
        cause: error,
      },
    )
  }
  if (known.code === 'unauthenticated' && known.hint === undefined) {
    return new HearthError('unauthenticated', known.message, {
      hint: 'use a token of this coordinator ("hearth login", or HEARTH_TOKEN)',
      cause: error,
    })
  }
  return known
}
