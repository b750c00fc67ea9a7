/**
 * What a hostile Dockerfile can reach from its steps and through BuildKit's own fetches, by every road that
 * a build has. Hearth runs on a machine of the test's own; see outer-network.ts. Every target is first shown
 * to answer where it may be reached from, and every road to lead to the network that builds are meant to
 * reach; at the end, no target may have been connected to by anybody else.
 */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import anyTest, { type TestFn } from 'ava'
import { createTemporaryFolder, runTimed, startProcess } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'
import { type HearthInside, startHearthInside } from './hearth-inside.ts'
import { addresses, createOuterNetwork, type OuterNetwork } from './outer-network.ts'
import { pathTo, startTargets, type Targets } from './targets.ts'

interface Context {
  outer: OuterNetwork
  network: Targets
  machine: Targets
  hearth: HearthInside
  repositories: string
  cleanUp: AsyncDisposableStack
}

const test = anyTest as TestFn<Context>

/** The project whose builds attack, and another one with a daemon of its own. */
const project = 'app'
const other = 'other'

const { allowed } = addresses

test.before(async (t) => {
  const cleanUp = new AsyncDisposableStack()
  t.context.cleanUp = cleanUp
  const outer = cleanUp.use(await createOuterNetwork())
  t.context.outer = outer
  t.context.network = cleanUp.use(
    await startTargets(outer.network, {
      allowed: `${allowed}:80`,
      'allowed registry': `${allowed}:443`,
      metadata: `${addresses.metadata}:80`,
      'metadata registry': `${addresses.metadata}:443`,
      'metadata twin': `[${addresses.metadataTwin}]:80`,
    }),
  )
  t.context.machine = cleanUp.use(
    await startTargets(outer.machine, {
      host: '0.0.0.0:80',
      'host registry': '0.0.0.0:443',
      'host loopback': '127.0.0.1:8001',
      'host, version 6': `[${addresses.machine6}]:8002`,
    }),
  )
  const repositories = cleanUp.use(await createTemporaryFolder('repositories')).path
  t.context.repositories = repositories
  cleanUp.use(
    await startProcess({
      command: 'nsenter',
      args: [
        ...[`--net=${outer.network.path}`, '--', 'git', 'daemon', '--export-all', '--verbose'],
        ...[`--base-path=${repositories}`, `--listen=${allowed}`, repositories],
      ],
      ready: (started) => started.output().includes('Ready to rumble'),
    }),
  )
  t.context.hearth = cleanUp.use(await startHearthInside(outer.machine))
})

test.after.always(async (t) => {
  await t.context.cleanUp?.disposeAsync()
})

/** Builds a Dockerfile of these lines after busybox. */
async function build(
  t: { context: Context },
  dockerfile: string,
  flags: readonly string[] = [],
  by = project,
) {
  await using context = await createContext(dockerfile)
  // The client is no attacker: it must not ask for credentials on its own account.
  const env = { AWS_EC2_METADATA_DISABLED: 'true' }
  return await t.context.hearth.build(by, [...flags, context.path], env)
}

test.serial('every target answers where it may be reached from', async (t) => {
  const { outer, network, machine } = t.context
  const { stderr } = await build(t, 'RUN echo the daemon is there')
  t.regex(stderr, /the daemon is there/)
  for (const [name, url] of Object.entries(await targets(t))) {
    const { stdout } = await outer.machine.run('busybox', ['wget', '-q', '-O', '-', url])
    t.regex(stdout, /^this is /, name)
  }
  for (const name of ['metadata', 'metadata twin']) t.true(network.hits(name) > 0, name)
  for (const name of ['host', 'host loopback', 'host, version 6']) {
    t.true(machine.hits(name) > 0, name)
  }
  t.true(t.context.hearth.ports.length >= 3)
  for (const port of t.context.hearth.ports) {
    const { exitCode } = await outer.machine.run('busybox', [
      ...['nc', '-w', '5'],
      '127.0.0.1',
      `${port}`,
    ])
    t.is(exitCode, 0, `port ${port}`)
  }
  known = counts(t)
})

/** Connections that the test has made itself. */
let known: Record<string, number> = {}

function counts(t: { context: Context }): Record<string, number> {
  const { network, machine } = t.context
  return {
    metadata: network.hits('metadata'),
    'metadata registry': network.hits('metadata registry'),
    'metadata twin': network.hits('metadata twin'),
    host: machine.hits('host'),
    'host registry': machine.hits('host registry'),
    'host loopback': machine.hits('host loopback'),
    'host, version 6': machine.hits('host, version 6'),
  }
}

/** Where the machine answers on a daemon's link, the way that a daemon's packets go. */
async function linkAddresses(t: { context: Context }): Promise<string[]> {
  const { stdout } = await t.context.outer.machine.run('ip', ['-4', '-oneline', 'address'])
  return [...stdout.matchAll(/ hth\S* +inet (\S+)\//g)].map(([, address]) => address ?? '')
}

/** What no build may reach: URLs by name. */
async function targets(t: { context: Context }): Promise<Record<string, string>> {
  const [link = ''] = await linkAddresses(t)
  return {
    'the metadata address': `http://${addresses.metadata}`,
    'the host': `http://${addresses.machine}`,
    'the host by its end of the link': `http://${link}`,
    'the twin of the metadata address': `http://[${addresses.metadataTwin}]`,
    "the host's loopback": 'http://127.0.0.1:8001',
    'the host by IPv6': `http://[${addresses.machine6}]:8002`,
  }
}

test.serial('a step reaches the network, and nothing of the machine', async (t) => {
  const { hearth } = t.context
  const [link = ''] = await linkAddresses(t)
  const urls = { ...(await targets(t)), 'the network': `http://${allowed}` }
  const attempts = Object.entries(urls).map(
    ([name, url]) => `timeout 5 wget -q -O /dev/null ${url}/ && echo "reached: ${name}"`,
  )
  for (const port of [...hearth.ports, 5000]) {
    const places = ['127.0.0.1', '127.0.0.2', addresses.machine, link, '$gateway']
    for (const place of places) {
      attempts.push(`nc -w 3 ${place} ${port} </dev/null && echo "reached: ${place}:${port}"`)
    }
  }
  const gateway = "gateway=$(ip route | awk '/default/ {print $3}')"
  const built = await build(t, `RUN ${[gateway, ...attempts, 'echo over'].join('; ')}`)
  t.is(built.exitCode, 0, built.stderr)
  t.deepEqual(reached(built.stderr), ['the network'])
})

/** Lines that a step has printed, not those that repeat its command. */
function reached(progress: string): string[] {
  return [...progress.matchAll(/^#\d+ [\d.]+ reached: (.*)$/gm)].map(([, name]) => name ?? '')
}

/** A road: what a build does to make the node fetch something below a URL. */
type Road = (url: string) => { dockerfile: string; flags?: string[] }

const hostOf = (url: string): string => new URL(url).host

const pullable = 'FROM base AS done'

const roads: Record<string, Road> = {
  ADD: (url) => ({ dockerfile: `ADD ${url}/file /x` }),
  'ADD, redirected': (url) => ({ dockerfile: `ADD http://${allowed}${pathTo(url)}/file /x` }),
  'ADD of a repository': (url) => ({ dockerfile: `ADD ${url}/repository.git /x` }),
  'ADD of a repository, redirected': (url) => ({
    dockerfile: `ADD http://${allowed}${pathTo(url)}/repository.git /x`,
  }),
  FROM: (url) => ({ dockerfile: `FROM ${hostOf(url)}/image` }),
  'COPY --from': (url) => ({ dockerfile: `COPY --from=${hostOf(url)}/image / /` }),
  'a named context that is an image': (url) => ({
    dockerfile: 'COPY --from=named / /',
    flags: ['--build-context', `named=docker-image://${hostOf(url)}/image`],
  }),
  'a named context that is an address': (url) => ({
    dockerfile: 'COPY --from=named / /',
    flags: ['--build-context', `named=${url}/context.tar`],
  }),
  'a named context that is a repository': (url) => ({
    dockerfile: 'COPY --from=named / /',
    flags: ['--build-context', `named=${url}/context.git`],
  }),
  '--cache-from a registry': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-from', `type=registry,ref=${hostOf(url)}/cache`],
  }),
  '--cache-to a registry': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-to', `type=registry,ref=${hostOf(url)}/cache`],
  }),
  '--cache-from S3': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-from', s3(url)],
  }),
  '--cache-to S3': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-to', s3(url)],
  }),
  '--cache-from Azure': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-from', `type=azblob,name=x,account_url=${url},secret_access_key=eA==`],
  }),
  '--cache-from GitHub': (url) => ({
    dockerfile: pullable,
    flags: ['--cache-from', `type=gha,url=${url}/,token=${token},version=1`],
  }),
  '--output to a registry': (url) => ({
    dockerfile: pullable,
    flags: ['--output', `type=image,name=${hostOf(url)}/image,push=true`],
  }),
  'an SBOM generator': (url) => ({
    dockerfile: pullable,
    flags: ['--sbom', `generator=${hostOf(url)}/scanner`, '--output', 'type=oci,dest=/dev/null'],
  }),
}

/** With no credentials of its own, the SDK would ask the metadata address for the machine's. */
function s3(url: string): string {
  return `type=s3,bucket=b,region=r,use_path_style=true,endpoint_url=${url},access_key_id=x,secret_access_key=y`
}

/** A token like those of GitHub's runners: a JWT that nobody checks. */
const token = [
  '{"alg":"HS256"}',
  '{"nbf":0,"exp":4102444800,"ac":"[{\\"Scope\\":\\"x\\",\\"Permission\\":3}]"}',
  'x',
]
  .map((part) => Buffer.from(part).toString('base64url'))
  .join('.')

/** Roads of which each is tried to every target; of the others, all end in one of these. */
const triedToAll = new Set(['ADD', 'ADD, redirected', 'ADD of a repository, redirected'])

for (const [name, road] of Object.entries(roads)) {
  test.serial(`${name}: leads to the network, and to nothing else`, async (t) => {
    const { network } = t.context
    const before = network.hits('allowed') + network.hits('allowed registry')
    const { dockerfile, flags } = road(`http://${allowed}`)
    const fair = await build(t, dockerfile, flags)
    const during = network.hits('allowed') + network.hits('allowed registry')
    t.true(during > before, fair.stderr.slice(-2000))

    const urls = Object.values(await targets(t))
    const tried = triedToAll.has(name) ? urls : urls.slice(0, 2)
    await Promise.all(
      tried.map(async (url) => {
        const attempt = road(url)
        await build(t, attempt.dockerfile, attempt.flags)
      }),
    )
    t.deepEqual(counts(t), known)
  })
}

test.serial('with no credentials, an S3 cache gets none from the machine', async (t) => {
  const anonymous =
    'type=s3,bucket=b,region=r,use_path_style=true,endpoint_url=http://198.51.100.10'
  const built = await build(t, pullable, ['--cache-to', anonymous])
  t.not(built.exitCode, 0)
  t.regex(built.stderr, /credentials|EC2 IMDS/)
  t.deepEqual(counts(t), known)
})

/** Makes a bare repository with these files below the folder that git serves. */
async function makeRepository(
  t: { context: Context },
  name: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  const bare = path.join(t.context.repositories, `${name}.git`)
  await using work = await createTemporaryFolder('work')
  const git = async (...args: string[]): Promise<void> => {
    const who = ['-c', 'user.name=test', '-c', 'user.email=test@example.com']
    const { exitCode, stderr } = await runTimed('git', [...who, ...args], { cwd: work.path })
    if (exitCode !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`)
  }
  await git('init', '--quiet', '--initial-branch', 'main')
  for (const [file, content] of Object.entries(files)) {
    await writeFile(path.join(work.path, file), content)
  }
  await git('add', '--all')
  if (files['.gitmodules'] !== undefined) {
    // A submodule is an entry that names a commit of the other repository; any name will do.
    await git('update-index', '--add', '--cacheinfo', `160000,${'1'.repeat(40)},module`)
  }
  await git('commit', '--quiet', '--message', 'first')
  await git('clone', '--quiet', '--bare', work.path, bare)
}

test.serial('a repository of the network is fetched', async (t) => {
  await makeRepository(t, 'plain', { file: 'from the repository' })
  const built = await build(t, `ADD git://${allowed}/plain.git /x\nRUN cat /x/file`)
  t.is(built.exitCode, 0, built.stderr)
  t.regex(built.stderr, /from the repository/)
})

test.serial(
  "a submodule leads to the network, and neither to the machine's addresses nor files",
  async (t) => {
    const { network } = t.context
    // What a hostile repository would like to have: one that only this machine has.
    await makeRepository(t, 'private', { secret: "the machine's own" })
    const attempt = async (name: string, url: string) => {
      const modules = `[submodule "module"]\n\tpath = module\n\turl = ${url}\n`
      await makeRepository(t, name, { '.gitmodules': modules })
      return build(t, `ADD git://${allowed}/${name}.git /x\nRUN ls /x/module`)
    }
    const before = network.hits('allowed')
    await attempt('fair', `http://${allowed}/module.git`)
    t.true(network.hits('allowed') > before)
    const files = path.join(t.context.repositories, 'private.git')
    const urls = [`file://${files}`, files, ...Object.values(await targets(t)).slice(0, 3)]
    const results = await Promise.all(urls.map((url, index) => attempt(`hostile-${index}`, url)))
    for (const [index, result] of results.entries()) {
      t.not(result.exitCode, 0, urls[index])
      t.notRegex(result.stderr, /^#\d+ [\d.]+ secret/m)
    }
    t.regex(results[0]?.stderr ?? '', /transport 'file' not allowed/)
    t.deepEqual(counts(t), known)
  },
)

test.serial('a build cannot name the loopback registry', async (t) => {
  const sources: [dockerfile: string, ...flags: string[]][] = [
    ['ADD http://hearth.cache:5000/v2/ /x'],
    ['ADD http://127.0.0.2:5000/v2/ /x'],
    ['ADD http://HEARTH.CACHE.:5000/v2/ /x'],
    ['ADD http://hearth.cache:5000/x.git /x'],
    ['FROM hearth.cache:5000/x/cache:record'],
    ['COPY --from=hearth.cache:5000/x/cache:record / /'],
    [
      'COPY --from=named / /',
      ...['--build-context', 'named=docker-image://hearth.cache:5000/x/cache:record'],
    ],
    [pullable, '--sbom', 'generator=hearth.cache:5000/x/scanner'],
  ]
  const caches: [dockerfile: string, ...flags: string[]][] = [
    [pullable, '--cache-from', 'type=registry,ref=hearth.cache:5000/x/cache:record'],
    [pullable, '--cache-to', 'type=registry,ref=hearth.cache:5000/x/cache:record'],
    [pullable, '--output', 'type=image,name=hearth.cache:5000/x/image,push=true'],
    [pullable, '--cache-to', s3('http://hearth.cache:5000')],
  ]
  const refused = async ([dockerfile, ...flags]: [string, ...string[]], reason: RegExp) => {
    const built = await build(t, dockerfile, flags)
    t.not(built.exitCode, 0)
    t.regex(built.stderr, reason, `${dockerfile} ${flags.join(' ')}`)
  }
  await Promise.all([
    ...sources.map((attempt) => refused(attempt, /denied by policy/)),
    ...caches.map((attempt) => refused(attempt, /names the node's own cache registry/)),
  ])
})

test.serial('a redirect to the loopback registry finds nothing there', async (t) => {
  for (const place of ['127.0.0.2:5000', 'hearth.cache:5000']) {
    const url = `http://${place}/v2/${'0'.repeat(40)}/cache`
    const built = await build(t, `ADD http://${allowed}${pathTo(url)}/manifests/record /x`)
    t.not(built.exitCode, 0)
    t.regex(built.stderr, /404/, place)
  }
})

test.serial('no build reaches the steps or the BuildKit of another scope', async (t) => {
  const { network, outer } = t.context
  const wait = `wget -q -O /dev/null http://${allowed}`
  const serving = build(
    t,
    [
      'RUN mkdir /www && echo "this is a step" > /www/index.html && httpd -p 8000 -h /www &&',
      '  address=$(ip -4 -oneline address show eth0 | awk \'{ sub(/\\/.*/, "", $4); print $4 }\') &&',
      `  ${wait}/note/$address && ${wait}/gone/stop`,
    ].join(' '),
    [],
    other,
  )
  const address = await noted(network)
  const look = `RUN timeout 5 wget -q -O - http://${address}:8000/ || echo "nothing there"`
  const fair = await build(t, look, [], other)
  t.regex(fair.stderr, /^#\d+ [\d.]+ this is a step/m)
  const step = await build(t, look)
  t.regex(step.stderr, /^#\d+ [\d.]+ nothing there/m)
  const inside = await insides(t)
  t.true(inside.length >= 2)
  const urls = [`http://${address}:8000`, ...inside.map((at) => `http://${at}:5000`)]
  await Promise.all(
    urls.flatMap((url) =>
      (['ADD', 'ADD, redirected'] as const).map(async (name) => {
        const built = await build(t, roads[name]?.(url).dockerfile ?? '')
        t.not(built.exitCode, 0)
        t.regex(built.stderr, /refused|unreachable|no route|timeout/i, `${name} ${url}`)
      }),
    ),
  )
  await outer.network.run('busybox', ['wget', '-q', '-O', '/dev/null', `http://${allowed}/go/stop`])
  const served = await serving
  t.is(served.exitCode, 0, served.stderr)
})

/** Resolves with the first text that somebody had noted. */
async function noted(network: Targets): Promise<string> {
  const limit = AbortSignal.timeout(60_000)
  for (;;) {
    const [note] = network.notes()
    if (note !== undefined) return note
    limit.throwIfAborted()
    await delay(20)
  }
}

/** The daemons' own ends of their links: the address after the machine's. */
async function insides(t: { context: Context }): Promise<string[]> {
  const addresses = await linkAddresses(t)
  return addresses.map((address) => address.replace(/\d+$/, (last) => `${Number(last) + 1}`))
}

test.serial('in the end, nobody has come to what no build may reach', (t) => {
  t.deepEqual(counts(t), known)
})
