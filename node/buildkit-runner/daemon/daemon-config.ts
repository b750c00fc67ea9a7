/** The configuration of one daemon, as docs/buildkitd.toml.md of moby/buildkit v0.34.2 describes it. */
import { stringify } from 'smol-toml'

export interface DaemonConfig {
  root: string
  /** Paths of the unix sockets for the API and for the traces of steps. */
  socket: string
  traceSocket: string
  bridge: string
  subnet: string
  cniFolder: string
  runc: string
  controlGroup: string
  /** "host:port" of the loopback registry. */
  registryHost: string
  /** By host of another registry: the path on the loopback registry where its mirror is asked first. */
  mirrors?: ReadonlyMap<string, string> | undefined
  /** "os/arch" list; undefined lets BuildKit find what this machine can run. */
  platforms: readonly string[] | undefined
}

/** BuildKit's default of 4 is meant for registries far away. */
const registryConnections = 32

export function daemonConfig(config: DaemonConfig): string {
  return stringify({
    root: config.root,
    log: { format: 'text', level: 'info' },
    grpc: { address: [`unix://${config.socket}`], debugAddress: '' },
    otel: { socketPath: config.traceSocket },
    cdi: { disabled: true },
    system: { maxRegistryConcurrency: registryConnections },
    worker: {
      oci: {
        enabled: true,
        snapshotter: 'overlayfs',
        // Stock collection can empty a cache mount under a step that is starting; see prune.ts.
        gc: false,
        networkMode: 'bridge',
        bridgeName: config.bridge,
        bridgeSubnet: config.subnet,
        cniBinaryPath: config.cniFolder,
        binary: config.runc,
        defaultCgroupParent: config.controlGroup,
        ...(config.platforms === undefined ? {} : { platforms: [...config.platforms] }),
      },
      containerd: { enabled: false },
    },
    registry: { ...mirrorsOf(config), [config.registryHost]: { http: true } },
  })
}

/** BuildKit puts "/v2" before the path of a mirror (util/resolver/resolver.go), and goes on to the registry itself. */
function mirrorsOf({ mirrors, registryHost }: DaemonConfig): Record<string, { mirrors: string[] }> {
  return Object.fromEntries(
    Array.from(mirrors ?? [], ([host, path]) => [host, { mirrors: [`${registryHost}/${path}`] }]),
  )
}
