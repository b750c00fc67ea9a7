/**
 * How a daemon is started: in a mount, a pid and a network namespace of its own, so that the kernel takes
 * down its mounts, its steps and its network with it, and with a line to us by which it notices our death.
 */
import path from 'node:path'
import { toolsFolder } from '../../../core/programs.ts'
import { systemPath } from './system-command.ts'

/**
 * The first process of the namespaces. It stays, because `unshare` does not report a child's death by
 * SIGKILL, and because somebody must reap orphans. It says on descriptor 3 that the namespaces are there, and
 * waits for a line on standard input that says that the network is. From then on standard input is the
 * line: when it ends (we closed it, or we are no more), buildkitd gets the TERM, and a little later the KILL.
 *
 * $1 hosts file, $2 folder for /var/lib/cni, $3 resolver file, then the daemon and its arguments.
 */
const script = `
mount --bind "$1" /etc/hosts && mkdir -p /var/lib/cni && mount --bind "$2" /var/lib/cni || exit 125
[ ! -e /etc/resolv.conf ] || mount --bind "$3" /etc/resolv.conf || exit 125
shift 3
for group in all default; do
  off=/proc/sys/net/ipv6/conf/$group/disable_ipv6
  [ ! -e "$off" ] || echo 1 >"$off" || exit 125
done
ip link set dev lo up && echo inside >&3 || exit 125
exec 3>&-
read -r _ || exit 125
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
  resolverFile: string
  addressesFolder: string
  temporaryFolder: string
  registryHostName: string
}

export function daemonLaunch(request: LaunchRequest, env = process.env): Launch {
  return {
    program: 'unshare',
    args: [
      '--mount',
      '--propagation=private',
      '--pid',
      '--net',
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
      request.resolverFile,
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
    PATH: `${toolsFolder(env)}:${path.dirname(request.buildkitd)}:${systemPath(env)}`,
    HOME: request.temporaryFolder,
    TMPDIR: request.temporaryFolder,
    // A proxy knows nothing of our loopback registry.
    NO_PROXY: [env.NO_PROXY || env.no_proxy, request.registryHostName].filter(Boolean).join(','),
  }
  for (const name of passedOn) {
    const value = env[name]
    if (value) chosen[name] = value
  }
  return chosen
}

/**
 * Where a daemon finds the loopback registry: an address of the loopback network that nobody expects anything
 * else on, so that every port of 127.0.0.1 is free for what it is to reach there.
 */
export const registryAddress = '127.0.0.2'

/** The machine's hosts file with the registry's readable name in it. */
export function hostsWith(hosts: string, registryHostName: string): string {
  const separator = hosts === '' || hosts.endsWith('\n') ? '' : '\n'
  return `${hosts}${separator}${registryAddress} ${registryHostName}\n`
}
