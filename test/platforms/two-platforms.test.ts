/**
 * One build for two platforms: each is built by a node of its own, natively as far as the nodes say, and both end in
 * one pushed index. The node of the other platform runs under qemu-user here, as it was told to.
 */
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import test from 'ava'
import {
  createTemporaryFolder,
  startUpstreamRegistry,
  type TemporaryFolder,
} from '../harness/index.ts'
import { startMesh } from '../harness/mesh.ts'

const run = promisify(execFile)

const platforms = ['linux/amd64', 'linux/arm64'] as const

/** Says what it was made for: in the file that it is asked to write, and after how many seconds. */
const program = `package main

import ("os"; "runtime"; "strconv"; "time")

func main() {
	seconds, _ := strconv.Atoi(os.Args[2])
	if runtime.GOARCH == os.Args[3] { time.Sleep(time.Duration(seconds) * time.Second) }
	if err := os.WriteFile(os.Args[1], []byte(runtime.GOARCH), 0o644); err != nil { panic(err) }
}
`

const dockerfile = (slow: string) => `FROM scratch
ARG TARGETARCH
COPY say-\${TARGETARCH} /say
RUN ["/say", "/architecture", "4", "${slow}"]
RUN ["/say", "/again", "0", ""]
`

async function createProgram(slow: string): Promise<TemporaryFolder> {
  const folder = await createTemporaryFolder('platforms')
  await writeFile(path.join(folder.path, 'say.go'), program)
  await writeFile(path.join(folder.path, 'Dockerfile'), dockerfile(slow))
  for (const platform of platforms) {
    const architecture = platform.split('/')[1] ?? ''
    await run('go', ['build', '-o', `say-${architecture}`, 'say.go'], {
      cwd: folder.path,
      env: { ...process.env, GOARCH: architecture, CGO_ENABLED: '0', GO111MODULE: 'off' },
    })
  }
  return folder
}

test('both platforms end in one index, each built by its own node, and the faster does not wait for the slower', async (t) => {
  const own = process.arch === 'arm64' ? 'linux/arm64' : 'linux/amd64'
  const other = own === 'linux/amd64' ? 'linux/arm64' : 'linux/amd64'
  await using registry = await startUpstreamRegistry()
  await using context = await createProgram(other.split('/')[1] ?? '')
  await using mesh = await startMesh({
    nodes: 2,
    platforms: [undefined, other],
    reach: [registry.host],
  })
  t.deepEqual((await mesh.listNodes()).map(({ platform }) => platform).sort(), [...platforms])

  const image = `${registry.host}/both:1`
  const flags = ['--platform', platforms.join(','), '-t', image, '--push', context.path]
  const built = await mesh.build(flags)
  t.is(built.exitCode, 0, built.stderr)
  for (const [platform, files] of await filesByPlatform(registry.host, 'both', '1')) {
    t.is(files.get('architecture'), platform.split('/')[1], platform)
    t.is(files.get('again'), platform.split('/')[1], platform)
  }

  const info = await mesh.settled(built.buildId ?? '')
  t.is(info.nodeIds.length, 2)
  // One solve for each, none with steps of the other's platform; what only copies is of none.
  const platformsOf = ({ steps }: (typeof info.solves)[number]) =>
    [...new Set(steps.map((step) => step.platform))].filter((platform) => platform !== '').join()
  const byPlatform = new Map(info.solves.map((solve) => [platformsOf(solve), solve]))
  t.deepEqual([...byPlatform.keys()].sort(), [...platforms])
  for (const solve of info.solves) t.is(solve.keep, 'kept', solve.keepReason)
  const [fast, slow] = [byPlatform.get(own), byPlatform.get(other)]
  t.true((fast?.durationMs ?? 0) + 2_000 < (slow?.durationMs ?? 0), 'the faster one waited')

  const again = await mesh.build(flags)
  t.is(again.exitCode, 0, again.stderr)
  const { stepsReused, stepsTotal } = await mesh.settled(again.buildId ?? '')
  t.is(stepsReused, stepsTotal)
})

/** The files at the root of each platform's image, by name. */
async function filesByPlatform(
  host: string,
  repository: string,
  tag: string,
): Promise<Map<string, Map<string, string>>> {
  const base = `http://${host}/v2/${repository}`
  const accept =
    'application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json'
  const document = async (name: string) =>
    (await fetch(`${base}/manifests/${name}`, { headers: { accept } })).json()
  const index = (await document(tag)) as {
    manifests: { digest: string; platform: { os: string; architecture: string } }[]
  }
  const images = index.manifests.filter(({ platform }) => platform.os !== 'unknown')
  const found = new Map<string, Map<string, string>>()
  for (const { digest, platform } of images) {
    const { layers } = (await document(digest)) as { layers: { digest: string }[] }
    const files = new Map<string, string>()
    for (const layer of layers) {
      const blob = await (await fetch(`${base}/blobs/${layer.digest}`)).arrayBuffer()
      for (const [name, content] of entriesOfTar(gunzipSync(blob))) files.set(name, content)
    }
    found.set(`${platform.os}/${platform.architecture}`, files)
  }
  return found
}

/** Names and sizes stand at fixed places of each header block of 512 bytes (ustar). */
function* entriesOfTar(bytes: Buffer): Generator<[name: string, content: string]> {
  const text = (start: number, length: number) =>
    bytes.toString('latin1', start, start + length).replace(/\0.*$/s, '')
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8)
    yield [text(at, 100), bytes.toString('utf8', at + 512, at + 512 + Math.min(size, 100))]
    at += 512 + Math.ceil(size / 512) * 512
  }
}
