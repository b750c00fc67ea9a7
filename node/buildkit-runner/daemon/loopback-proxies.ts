/** Proxies that run on this machine: buildkitd gets their names in its environment (launch.ts). */
const variables = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']

/** Ports of this machine's loopback that the proxies of the environment listen on. */
export function proxyPortsOnLoopback(env: NodeJS.ProcessEnv = process.env): number[] {
  const ports = variables
    .flatMap((name) => [env[name], env[name.toLowerCase()]])
    .flatMap((value) => (value ? portOnLoopback(value) : []))
  return [...new Set(ports)]
}

const standardPorts: Record<string, number> = { 'http:': 80, 'https:': 443, 'socks5:': 1080 }

/** Written with or without a scheme, as curl(1) takes it. What is no address at all is nobody's proxy. */
function portOnLoopback(value: string): number[] {
  const url = URL.parse(value.includes('://') ? value : `http://${value}`)
  if (url === null || !['localhost', '127.0.0.1'].includes(url.hostname)) return []
  return [Number(url.port) || (standardPorts[url.protocol] ?? 80)]
}
