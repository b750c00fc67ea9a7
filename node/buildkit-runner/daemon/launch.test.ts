import test from 'ava'
import { parse } from 'smol-toml'
import { HearthError } from '../../../core/errors.ts'
import { silentLogger } from '../../../core/log.ts'
import { daemonConfig } from './daemon-config.ts'
import { daemonLaunch, hostsWith } from './launch.ts'
import { refuseOldVersion } from './version.ts'

const request = {
  buildkitd: '/opt/odd; name $(true)/buildkitd',
  configFile: '/run/x.toml',
  hostsFile: '/run/x.hosts',
  addressesFolder: '/data/addresses',
  temporaryFolder: '/data/temporary',
  resolverFile: '/run/x.resolv.conf',
  registryHostName: 'hearth.cache',
}

test('paths reach the shell as arguments, never as script', (t) => {
  const { args } = daemonLaunch(request, {})
  const script = args[args.indexOf('-c') + 1]
  t.false(script?.includes('odd'))
  t.true(args.includes(request.buildkitd))
})

test('the environment passes on proxies and certificates, and keeps the registry off the proxy', (t) => {
  const { env } = daemonLaunch(request, {
    PATH: '/bin',
    HTTPS_PROXY: 'http://proxy:3128',
    no_proxy: 'internal',
    SSL_CERT_FILE: '/ca.pem',
    AWS_SECRET_ACCESS_KEY: 'secret',
    HEARTH_TOKEN: 'secret',
  })
  t.is(env.HTTPS_PROXY, 'http://proxy:3128')
  t.is(env.SSL_CERT_FILE, '/ca.pem')
  t.is(env.NO_PROXY, 'internal,hearth.cache')
  t.false(JSON.stringify(env).includes('secret'))
})

test('the registry’s name is added to whatever the hosts file says', (t) => {
  t.is(hostsWith('127.0.0.1 localhost', 'c'), '127.0.0.1 localhost\n127.0.0.2 c\n')
  t.is(hostsWith('', 'c'), '127.0.0.2 c\n')
})

test('a path with quotes survives in the configuration', (t) => {
  const root = '/data/"quoted"\\root'
  const config = parse(
    daemonConfig({
      root,
      socket: '/s',
      traceSocket: '/t',
      bridge: 'b',
      subnet: '10.192.0.0/24',
      cniFolder: '/cni',
      runc: '/runc',
      controlGroup: 'g',
      registryHost: 'hearth.cache:5000',
      platforms: ['linux/arm64'],
    }),
  )
  t.is(config.root, root)
  t.deepEqual(config.registry, { 'hearth.cache:5000': { http: true } })
})

for (const version of ['v0.34.2', '0.34.10', 'v1.0.0-rc1', 'v0.0.0+unknown', 'unknown']) {
  test(`BuildKit ${version} is accepted`, (t) => {
    t.notThrows(() => refuseOldVersion(version, '/bin/buildkitd', silentLogger))
  })
}

for (const version of ['v0.34.1', 'v0.9.3']) {
  test(`BuildKit ${version} is refused`, (t) => {
    const error = t.throws(() => refuseOldVersion(version, '/bin/buildkitd', silentLogger), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'version')
  })
}
