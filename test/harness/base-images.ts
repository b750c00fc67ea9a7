/**
 * The base images that tests and workloads build on, made from this machine's own programs because tests
 * reach no public registry: busybox, and Go's toolchain on top of it. Kept as blobs and a manifest in the
 * user's cache folder; the same machine makes the same digests again.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createGzip } from 'node:zlib'
import { cacheFolder, madeOnce } from './cache-folder.ts'

const run = promisify(execFile)

export interface BaseImage {
  /** Holds `manifest.json`, and `blobs/` with files named by the hex part of their digests. */
  readonly folder: string
}

interface Layer {
  /** Hash of the uncompressed tar. */
  diffId: string
  descriptor: { mediaType: string; digest: string; size: number }
}

/** Raised when images are made in another way from the same programs. */
const recipe = 1
const busyboxFile = '/bin/busybox'
const certificates = '/etc/ssl/certs/ca-certificates.crt'

/** Debian's static busybox with all its applets, and the certificates that HTTPS needs. */
export async function busyboxImage(): Promise<BaseImage> {
  const key = await keyOf([busyboxFile, certificates])
  const folder = cacheFolder(`base-images/busybox-${key}`)
  await madeOnce(folder, async (temporary) => {
    const layer = await busyboxLayer(temporary)
    await writeImage(temporary, [layer], { PATH: defaultPath })
  })
  return { folder }
}

/** Go as this machine has it, without tests and documents, for builds with CGO_ENABLED=0. */
export async function goImage(): Promise<BaseImage> {
  const goroot = (await run('go', ['env', 'GOROOT'])).stdout.trim()
  const key = await keyOf([busyboxFile, certificates, path.join(goroot, 'VERSION')])
  const folder = cacheFolder(`base-images/go-${key}`)
  await madeOnce(folder, async (temporary) => {
    const layers = [await busyboxLayer(temporary), await goLayer(temporary, goroot)]
    await writeImage(temporary, layers, {
      PATH: `/go/bin:/usr/local/go/bin:${defaultPath}`,
      GOPATH: '/go',
      GOTOOLCHAIN: 'local',
    })
  })
  return { folder }
}

/**
 * An image that was made again: as it was, with one more small layer.
 * @param folder empty; the image is made in it.
 */
export async function rebuiltImage(
  image: BaseImage,
  options: { folder: string; revision: string },
): Promise<BaseImage> {
  const { folder, revision } = options
  await cp(image.folder, folder, { recursive: true })
  const manifest = JSON.parse(await readFile(path.join(folder, 'manifest.json'), 'utf8')) as {
    config: { digest: string }
    layers: Layer['descriptor'][]
  }
  const config = JSON.parse(
    await readFile(
      path.join(folder, 'blobs', manifest.config.digest.slice('sha256:'.length)),
      'utf8',
    ),
  ) as { config: { Env: string[] }; rootfs: { diff_ids: string[] } }
  const tree = path.join(folder, 'tree')
  await mkdir(path.join(tree, 'etc'), { recursive: true })
  await writeFile(path.join(tree, 'etc/revision'), `${revision}\n`)
  const added = await packLayer(folder, ['-C', tree, '.'])
  await rm(tree, { recursive: true })
  const known = manifest.layers.map((descriptor, index) => ({
    diffId: config.rootfs.diff_ids[index] ?? '',
    descriptor,
  }))
  const env = config.config.Env.map((line): [string, string] => {
    const [name = '', ...value] = line.split('=')
    return [name, value.join('=')]
  })
  await writeImage(folder, [...known, added], Object.fromEntries(env))
  return { folder }
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

async function busyboxLayer(folder: string): Promise<Layer> {
  const tree = path.join(folder, 'tree')
  const folders = ['bin', 'dev', 'etc/ssl/certs', 'home', 'proc', 'root', 'sbin', 'sys', 'usr/bin']
  for (const name of [...folders, 'usr/sbin', 'usr/local/bin', 'var/log', 'tmp']) {
    await mkdir(path.join(tree, name), { recursive: true })
  }
  await chmod(path.join(tree, 'tmp'), 0o1777)
  await copyFile(busyboxFile, path.join(tree, 'bin/busybox'))
  await chmod(path.join(tree, 'bin/busybox'), 0o755)
  const applets = (await run(busyboxFile, ['--list-full'])).stdout.trim().split('\n')
  for (const applet of applets) {
    if (applet === 'bin/busybox' || applet === 'linuxrc') continue
    await symlink('/bin/busybox', path.join(tree, applet))
  }
  await writeFile(path.join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  await writeFile(path.join(tree, 'etc/group'), 'root:x:0:\n')
  await writeFile(path.join(tree, 'etc/nsswitch.conf'), 'hosts: files dns\n')
  await copyFile(certificates, path.join(tree, 'etc/ssl/certs/ca-certificates.crt'))
  const layer = await packLayer(folder, ['-C', tree, '.'])
  await rm(tree, { recursive: true })
  return layer
}

function goLayer(folder: string, goroot: string): Promise<Layer> {
  const leftOut = ['./test', './doc', './api', './misc', './.git', '*_test.go', 'testdata']
  return packLayer(folder, [
    '--transform=s,^\\.,usr/local/go,',
    '--no-wildcards-match-slash',
    ...leftOut.map((pattern) => `--exclude=${pattern}`),
    ...['-C', goroot, '.'],
  ])
}

/** Packs with GNU tar so that the same files give the same bytes, whoever owns them and however old. */
async function packLayer(folder: string, what: readonly string[]): Promise<Layer> {
  const blobs = path.join(folder, 'blobs')
  await mkdir(blobs, { recursive: true })
  const temporary = path.join(blobs, 'layer.tmp')
  const tar = spawn(
    'tar',
    [
      ...['--create', '--sort=name', '--format=gnu', '--mtime=@1700000000'],
      ...['--owner=0', '--group=0', '--numeric-owner', ...what],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const ended = new Promise<number | null>((resolve) => tar.once('close', resolve))
  const plain = createHash('sha256')
  const packed = createHash('sha256')
  let size = 0
  const beforeGzip = new PassThrough().on('data', (chunk: Buffer) => plain.update(chunk))
  const afterGzip = new PassThrough().on('data', (chunk: Buffer) => {
    packed.update(chunk)
    size += chunk.length
  })
  await pipeline(
    tar.stdout,
    beforeGzip,
    createGzip({ level: 6 }),
    afterGzip,
    createWriteStream(temporary),
  )
  if ((await ended) !== 0) throw new Error('tar could not pack a base image')
  const hex = packed.digest('hex')
  await rename(temporary, path.join(blobs, hex))
  return {
    diffId: `sha256:${plain.digest('hex')}`,
    descriptor: {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: `sha256:${hex}`,
      size,
    },
  }
}

async function writeImage(
  folder: string,
  layers: readonly Layer[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      created: '2023-11-14T22:13:20Z',
      config: {
        Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
        Cmd: ['sh'],
        WorkingDir: '/',
      },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: layers.map(() => ({ created: '2023-11-14T22:13:20Z', created_by: 'base image' })),
    }),
  )
  const hex = createHash('sha256').update(config).digest('hex')
  await writeFile(path.join(folder, 'blobs', hex), config)
  await writeFile(
    path.join(folder, 'manifest.json'),
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: `sha256:${hex}`,
        size: config.length,
      },
      layers: layers.map((layer) => layer.descriptor),
    }),
  )
}

async function keyOf(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(`${recipe}`)
  for (const file of files) {
    const one = createHash('sha256')
    for await (const chunk of createReadStream(file)) one.update(chunk as Buffer)
    hash.update(one.digest())
  }
  return hash.digest('hex').slice(0, 16)
}

/** The manifest's digest: what the image is known by. */
export async function imageDigest(image: BaseImage): Promise<string> {
  const text = await readFile(path.join(image.folder, 'manifest.json'))
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}
