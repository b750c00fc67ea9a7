/** For tests: a coordinator that answers over real gRPC and TLS, and says what the test told it to. */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import type { ExecutionContext } from 'ava'
import { HearthError } from '../core/errors.ts'
import { streamHandler, unaryHandler } from '../core/grpc-handler.ts'
import { formatAddress, startGrpcServer } from '../core/grpc-server.ts'
import { coordinatorServerName } from '../core/identity.ts'
import { silentLogger } from '../core/log.ts'
import {
  BuildsService,
  type Endpoint,
  type FinishBuildReply,
  type FinishBuildRequest,
  type OpenBuildReply,
  type OpenBuildRequest,
  type PlaceBuildEvent,
  type PlaceBuildRequest,
} from '../proto/generated/hearth/v1/coordinator.ts'
import { dataClientFile, writeClientFile } from './client-file.ts'
import type { Home } from './command-fixture.ts'

export interface Script {
  openBuild(request: OpenBuildRequest): Promise<OpenBuildReply>
  placeBuild(request: PlaceBuildRequest, signal: AbortSignal): AsyncIterable<PlaceBuildEvent>
  finishBuild(request: FinishBuildRequest): Promise<FinishBuildReply>
}

export interface ScriptedCoordinator {
  readonly address: string
  readonly caPem: string
  readonly opened: OpenBuildRequest[]
  readonly finished: FinishBuildRequest[]
  stop(): Promise<void>
}

const token = 'a-token'

/** Starts one, and lets the home know it as `hearth up` would. */
export async function startScriptedCoordinator(
  t: ExecutionContext,
  home: Home,
  script: Partial<Script> = {},
): Promise<ScriptedCoordinator> {
  const opened: OpenBuildRequest[] = []
  const finished: FinishBuildRequest[] = []
  const told = { ...willing, ...script }
  const log = silentLogger
  const unused = unaryHandler<unknown, never>({ log }, () => {
    throw new HearthError('internal', 'not in the script')
  })
  const identity = await selfSigned()
  const server = await startGrpcServer({
    host: '127.0.0.1',
    port: 0,
    identity,
    callerCertificates: 'optional',
    services: [
      [
        BuildsService,
        {
          openBuild: unaryHandler<OpenBuildRequest, OpenBuildReply>({ log }, (request, context) => {
            if (context.metadata.get('authorization')[0] !== `Bearer ${token}`) {
              throw new HearthError('unauthenticated', 'the token is wrong')
            }
            opened.push(request)
            return told.openBuild(request)
          }),
          placeBuild: streamHandler<PlaceBuildRequest, PlaceBuildEvent>(
            { log, timeoutMs: 60_000 },
            (request, { signal }) => told.placeBuild(request, signal),
          ),
          finishBuild: unaryHandler<FinishBuildRequest, FinishBuildReply>({ log }, (request) => {
            finished.push(request)
            return told.finishBuild(request)
          }),
          listBuilds: unused,
          getBuild: unused,
          priceBuild: unused,
        },
      ],
    ],
  })
  let stopped = false
  const stop = async () => {
    if (!stopped) await server[Symbol.asyncDispose]()
    stopped = true
  }
  t.teardown(stop)
  const address = formatAddress(server.host, server.port)
  const { caPem } = identity
  await writeClientFile(dataClientFile(home.env.HEARTH_DATA ?? ''), { address, caPem, token })
  return { address, caPem, opened, finished, stop }
}

export function endpoint(nodeId: string, address = '127.0.0.1:9'): Endpoint {
  return {
    nodeId,
    address,
    serverName: `${nodeId}.node.hearth.internal`,
    caPem: 'the ca of nodes\n',
    clientCertificatePem: `the certificate for ${nodeId}\n`,
    expiresAt: new Date(Date.now() + 60_000),
  }
}

export function placement(nodeId: string, ...platforms: string[]): PlaceBuildEvent {
  const value = { platforms, endpoint: endpoint(nodeId), reason: 'the script says so' }
  return { event: { $case: 'placement', value } }
}

export function queued(position: number, reason = ''): PlaceBuildEvent {
  return { event: { $case: 'queued', value: { position, nodeId: 'n1', reason } } }
}

export const openReply: OpenBuildReply = {
  buildId: 'b7k2',
  scope: { project: 'app', line: 'main' },
  planner: undefined,
  planWanted: false,
  standby: undefined,
  planners: [],
}

const willing: Script = {
  openBuild: async () => openReply,
  async *placeBuild() {
    yield placement('n1', 'linux/amd64')
  },
  finishBuild: async (request) => ({
    build: {
      id: request.buildId,
      scope: { project: 'app', line: 'main' },
      openedAt: undefined,
      finishedAt: undefined,
      outcome: request.outcome,
      command: '',
      nodeIds: ['n1'],
      solves: [],
      stepsReused: 3,
      stepsTotal: 4,
      savedMs: 5000,
      durationMs: request.durationMs,
      failure: undefined,
      decisions: [],
    },
  }),
}

async function selfSigned() {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=scripted coordinator',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: coordinatorServerName }]),
    ],
  })
  const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)
  const caPem = certificate.toString('pem')
  return {
    certificatePem: caPem,
    caPem,
    privateKeyPem: x509.PemConverter.encode(key, 'PRIVATE KEY'),
  }
}
