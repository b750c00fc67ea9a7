/**
 * How a daemon is started: in a mount and a pid namespace of its own, so that the kernel takes down its
 * mounts and its steps with it, and with a line to us by which it notices our death.
 */
import path from 'node:path'
import { toolsFolder } from '../../../core/programs.ts'
import { searchPath } from './system-command.ts'

/**
 * The first process of the namespaces. It stays, because `unshare` does not report a child's death by
 * SIGKILL, and because somebody must reap orphans. Standard input is the line: when it ends (we closed it,
 * or we are no more), buildkitd gets the TERM by which it removes its bridge, and a little later the KILL.
 *
 * $1 hosts file, $2 folder for /var/lib/cni, then the daemon and its arguments.
 */
const script = `
mount --bind "$1" /etc/hosts && mkdir -p /var/lib/cni && mount --bind "$2" /var/lib/cni || exit 125
shift 2
exec 3<&0 </dev/null
"$@" 3<&- &
daemon=$!
{ read -r _; kill -TERM "$daemon"; sleep 10; kill -KILL "$daemon"; } <&3 &
wait "$daemon"
`

export interface Launch {
  readonly program: string
  readonly args: readonly string[]
  readonly env: Record<string, string>
}

export interface LaunchRequest {
  buildkitd: string
  configFile: string
  hostsFile: string
  addressesFolder: string
  temporaryFolder: string
  /** Held by buildkitd while it sets up its network: the plugins' rules for all bridges are in shared chains. */
  networkLock: string
  registryHostName: string
}

export function daemonLaunch(request: LaunchRequest, env = process.env): Launch {
  return {
    program: 'unshare',
    args: [
      '--mount',
      '--propagation=private',
      '--pid',
      '--fork',
      '--kill-child=KILL',
      '--mount-proc',
      '--',
      'sh',
      '-c',
      script,
      'hearth',
      request.hostsFile,
      request.addressesFolder,
      request.buildkitd,
      '--config',
      request.configFile,
    ],
    env: daemonEnvironment(request, env),
  }
}

const passedOn = [
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'ALL_PROXY',
  'http_proxy',
  'https_proxy',
  'all_proxy',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
]

/** Little of ours: what buildkitd inherits, its steps' hooks and git could read, cloud credentials too. */
function daemonEnvironment(request: LaunchRequest, env: NodeJS.ProcessEnv): Record<string, string> {
  const chosen: Record<string, string> = {
    PATH: `${toolsFolder(env)}:${path.dirname(request.buildkitd)}:${searchPath(env)}`,
    HOME: request.temporaryFolder,
    TMPDIR: request.temporaryFolder,
    BUILDKIT_CNI_INIT_LOCK_PATH: request.networkLock,
    // A proxy knows nothing of our loopback registry.
    NO_PROXY: [env.NO_PROXY || env.no_proxy, request.registryHostName].filter(Boolean).join(','),
  }
  for (const name of passedOn) {
    const value = env[name]
    if (value) chosen[name] = value
  }
  return chosen
}

/** The machine's hosts file with the registry's readable name in it. */
export function hostsWith(hosts: string, registryHostName: string): string {
  const separator = hosts === '' || hosts.endsWith('\n') ? '' : '\n'
  return `${hosts}${separator}127.0.0.1 ${registryHostName}\n`
}
