/** A gRPC server over TLS whose certificate can be replaced while it runs. */
import {
  experimental,
  logVerbosity,
  Server,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { HearthError } from './errors.ts'
import { serverOptions } from './grpc-call.ts'

export interface TlsIdentity {
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** The authority that certificates of callers are checked against. */
  readonly caPem: string
}

export interface GrpcServer extends AsyncDisposable {
  readonly host: string
  readonly port: number
  /** New connections see the new certificate; open ones stay as they are. */
  replaceIdentity(identity: TlsIdentity): void
}

export interface GrpcServerOptions {
  host: string
  /** 0: any free port. */
  port: number
  identity: TlsIdentity
  /**
   * `required`: nobody gets in without a certificate of the authority. `optional`: it is asked for, and
   * the handler's context says whether there was a valid one.
   */
  callerCertificates: 'required' | 'optional'
  services: readonly (readonly [ServiceDefinition, UntypedServiceImplementation])[]
}

/** How long running calls may go on after the server was told to stop. */
const stopGraceMs = 500

/** @throws HearthError `environment` when the address cannot be listened on. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  // The library writes its own lines to standard error; failures reach us as errors and are logged once.
  if (process.env.GRPC_TRACE === undefined) setLogVerbosity(logVerbosity.NONE)
  const provider = createProvider(options.identity)
  const server = new Server(serverOptions)
  for (const [definition, implementation] of options.services) {
    server.addService(definition, implementation)
  }
  const credentials = experimental.createCertificateProviderServerCredentials(
    provider,
    provider,
    options.callerCertificates === 'required',
  )
  const port = await bind(server, options, credentials)
  return {
    host: options.host,
    port,
    replaceIdentity: provider.replace,
    [Symbol.asyncDispose]: () => stop(server),
  }
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function bind(
  server: Server,
  { host, port }: { host: string; port: number },
  credentials: Parameters<Server['bindAsync']>[1],
): Promise<number> {
  const address = formatAddress(host, port)
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => {
      if (error === null) return resolve(bound)
      server.forceShutdown()
      const taken = error.message.includes('EADDRINUSE')
      reject(
        new HearthError(
          'environment',
          taken ? `${address} is taken` : `cannot listen on ${address}: ${error.message}`,
          {
            cause: error,
            hint: taken
              ? 'choose another port, or stop what listens there'
              : 'choose an address of this machine',
          },
        ),
      )
    })
  })
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.forceShutdown(), stopGraceMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

type CertificateProvider = Parameters<
  typeof experimental.createCertificateProviderServerCredentials
>[0]

/**
 * Hands one identity to grpc-js, which listens for its replacement. A listener hears of it in a later
 * microtask: grpc-js adds its listeners before the server that they tell, and would tell nobody.
 */
function createProvider(
  first: TlsIdentity,
): CertificateProvider & { replace(identity: TlsIdentity): void } {
  const certificates = new Set<
    Parameters<CertificateProvider['addIdentityCertificateListener']>[0]
  >()
  const authorities = new Set<Parameters<CertificateProvider['addCaCertificateListener']>[0]>()
  let certificate = { certificate: Buffer.alloc(0), privateKey: Buffer.alloc(0) }
  let authority = { caCertificate: Buffer.alloc(0) }
  const replace = (identity: TlsIdentity) => {
    certificate = {
      certificate: Buffer.from(identity.certificatePem),
      privateKey: Buffer.from(identity.privateKeyPem),
    }
    authority = { caCertificate: Buffer.from(identity.caPem) }
    for (const listener of authorities) listener(authority)
    for (const listener of certificates) listener(certificate)
  }
  replace(first)
  return {
    replace,
    addIdentityCertificateListener(listener) {
      certificates.add(listener)
      queueMicrotask(() => listener(certificate))
    },
    removeIdentityCertificateListener: (listener) => certificates.delete(listener),
    addCaCertificateListener(listener) {
      authorities.add(listener)
      queueMicrotask(() => listener(authority))
    },
    removeCaCertificateListener: (listener) => authorities.delete(listener),
  }
}
