/** The listener: TLS with a client certificate of the coordinator's authority, then HTTP/2. */
import { performServerHandshake } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer, type TLSSocket } from 'node:tls'
import { describeError, toHearthError } from '../../../core/errors.ts'
import type { TlsIdentity } from '../../../core/grpc-server.ts'
import { identityOfCertificate } from '../../../core/identity.ts'
import { type ScopeId, scopeId } from '../../../core/scope.ts'
import { type ClientConnection, serveConnection } from './client-connection.ts'
import { createOwners, type Owners, ownRegistry } from './control-calls/index.ts'
import type { BuildProxy, BuildProxyDeps, BuildProxyOptions } from './index.ts'
import { createQuietTime } from './quiet-time.ts'
import { createReportWaits } from './report-waits.ts'
import type { AfterSolve } from './solve-end.ts'
import { connectionWindowBytes, sessionMemoryMegabytes, streamWindowBytes } from './upstream.ts'

/** A client that has not finished its TLS handshake by then is dropped. */
const handshakeMs = 10_000

/** @throws HearthError `environment` when the address cannot be listened on. */
export async function createBuildProxy(
  deps: BuildProxyDeps,
  options: BuildProxyOptions,
): Promise<BuildProxy> {
  const connections = new Set<ClientConnection>()
  const waits = createReportWaits()
  const stopping = new AbortController()
  const leftovers = new Set<Promise<void>>()
  const registry = ownRegistry(options.registryHost)
  const ownersOf = new Map<ScopeId, Owners>()
  const quiet = createQuietTime(
    { isAnybodyQueued: () => deps.scheduler.load().queued > 0 },
    options.exportGraceMs === undefined ? {} : { graceMs: options.exportGraceMs },
  )

  // buildx's remote driver offers no ALPN protocol over mutual TLS, so HTTP/2 is taken for granted
  // instead of negotiated.
  const server = createServer({
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: handshakeMs,
    ALPNProtocols: ['h2'],
    ...secureContextOf(options.identity),
  })
  server.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => {}) // 'close' follows.
    try {
      accept(socket)
    } catch (error) {
      deps.log.warn({ reason: describeError(error) }, 'a client was refused')
      socket.destroy()
    }
  })
  server.on('tlsClientError', (error) => {
    deps.log.debug({ reason: error.message }, 'a TLS handshake failed')
  })
  const after: AfterSolve = (work) => {
    const done = work(stopping.signal)
      .catch((error: unknown) => deps.log.error({ error }, 'what a solve left to do has failed'))
      .finally(() => leftovers.delete(done))
    leftovers.add(done)
  }

  function accept(socket: TLSSocket): void {
    const certificate = socket.getPeerCertificate()
    const identity = identityOfCertificate(certificate.subjectaltname)
    if (identity.type !== 'client') {
      socket.destroy()
      return
    }
    const session = performServerHandshake(socket, {
      maxSessionMemory: sessionMemoryMegabytes,
      settings: { initialWindowSize: streamWindowBytes, maxConcurrentStreams: streamsMax },
    })
    session.setLocalWindowSize(connectionWindowBytes)
    const { scope, buildId } = identity
    const owners = ownersOf.get(scopeId(scope)) ?? createOwners()
    ownersOf.set(scopeId(scope), owners)
    // Without a build, a certificate is whoever holds its key.
    const owner = owners.enter(
      buildId === undefined ? `certificate ${certificate.fingerprint256}` : `build ${buildId}`,
    )
    const connection = serveConnection(
      { ...deps, quiet, waits, after, narrowing: { owner, registry } },
      session,
      socket,
      { scope, buildId, registryHost: options.registryHost },
    )
    connections.add(connection)
    session.once('close', () => owner[Symbol.dispose]())
    void connection.finished.then(() => connections.delete(connection))
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(toHearthError(error, `listen on ${options.host}:${options.port}`)),
    )
    server.listen(options.port, options.host, resolve)
  })
  // For example too many open files: the next connection may succeed.
  server.on('error', (error) => deps.log.error({ error }, 'a connection could not be accepted'))
  const { port } = server.address() as AddressInfo
  return {
    host: options.host,
    port,
    replaceIdentity: (identity) => server.setSecureContext(secureContextOf(identity)),
    reported: waits.reported,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      quiet.close()
      stopping.abort()
      for (const connection of connections) connection.close()
      const finished = Promise.all([closed, ...[...connections].map((each) => each.finished)])
      await Promise.race([finished, delay(lastExportsMs, undefined, { ref: false })])
      await Promise.all(leftovers)
    },
  }
}

/** What finished builds leave to export when the node stops may take this long; then it is lost. */
const lastExportsMs = 15_000

/** gRPC clients open a handful of streams per build; a bake of a hundred targets a few hundred. */
const streamsMax = 2_000

function secureContextOf(identity: TlsIdentity): { cert: string; key: string; ca: string } {
  return { cert: identity.certificatePem, key: identity.privateKeyPem, ca: identity.caPem }
}
