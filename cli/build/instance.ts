/**
 * A buildx builder for one build: a private `BUILDX_CONFIG` with one instance that points at the placed nodes
 * through the remote driver. Written directly, because `buildx create` costs 60 ms and does the same
 * (store/nodegroup.go and store/store.go of buildx 0.38: `instances/NAME` holds a node group as JSON).
 *
 * What the user configured for buildx stays in effect: the node id, which the key of the uploaded context is
 * derived from (build/opt.go), credentials for single registries (`config/`), and what verifies image policies.
 */
import { randomBytes } from 'node:crypto'
import { access, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { hasErrno } from '../../core/errors.ts'
import { writeFileDurably } from '../../core/format-version.ts'
import { stateFolder } from '../folders.ts'

/** Shown by buildx: building with "hearth" instance using remote driver. */
export const instanceName = 'hearth'

export interface InstanceNode {
  /** "host:port". */
  readonly address: string
  readonly serverName: string
  readonly caPem: string
  readonly certificatePem: string
  /** As "os/arch[/variant]"; empty: buildx asks the node. */
  readonly platforms: readonly string[]
}

/**
 * @param folder private to this build; must not hold an instance yet.
 * @returns the value for `BUILDX_CONFIG`.
 */
export async function writeInstance(
  folder: string,
  nodes: readonly InstanceNode[],
  privateKeyPem: string,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const config = path.join(folder, 'buildx')
  await mkdir(path.join(config, 'instances'), { recursive: true, mode: 0o700 })
  const keyFile = path.join(folder, 'key.pem')
  const group = {
    Name: instanceName,
    Driver: 'remote',
    Nodes: nodes.map((node, index) => ({
      Name: `${instanceName}${index}`,
      Endpoint: `tcp://${node.address}`,
      Platforms: node.platforms.map(platformObject),
      DriverOpts: {
        cacert: path.join(folder, `ca${index}.pem`),
        cert: path.join(folder, `certificate${index}.pem`),
        key: keyFile,
        servername: node.serverName,
      },
      Flags: null,
      Files: null,
    })),
    Dynamic: false,
  }
  const mode = 0o600
  await Promise.all([
    writeFile(keyFile, privateKeyPem, { mode }),
    ...nodes.flatMap((node, index) => [
      writeFile(path.join(folder, `ca${index}.pem`), node.caPem, { mode }),
      writeFile(path.join(folder, `certificate${index}.pem`), node.certificatePem, { mode }),
    ]),
    writeFile(path.join(config, 'instances', instanceName), JSON.stringify(group), { mode }),
    adoptUserConfig(config, env),
  ])
  return config
}

async function adoptUserConfig(config: string, env: NodeJS.ProcessEnv): Promise<void> {
  const own = userBuildxConfig(env)
  const nodeId = await readNodeId(own, env)
  await Promise.all([
    writeFile(path.join(config, nodeIdFileName), nodeId, { mode: 0o600 }),
    linkIfThere(path.join(own, 'policy'), path.join(config, 'policy')),
    linkRegistryConfigs(path.join(own, 'config'), path.join(config, 'config')),
  ])
}

function userBuildxConfig(env: NodeJS.ProcessEnv): string {
  if (env.BUILDX_CONFIG) return env.BUILDX_CONFIG
  return path.join(env.DOCKER_CONFIG || path.join(env.HOME || os.homedir(), '.docker'), 'buildx')
}

const nodeIdFileName = '.buildNodeID'

/** The user's own, else one that Hearth keeps: it must not change from build to build. */
async function readNodeId(own: string, env: NodeJS.ProcessEnv): Promise<string> {
  const kept = path.join(stateFolder(env), 'buildx-node-id')
  for (const file of [path.join(own, nodeIdFileName), kept]) {
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error
    }
  }
  const made = randomBytes(8).toString('hex')
  try {
    await mkdir(path.dirname(kept), { recursive: true, mode: 0o700 })
    await writeFileDurably(kept, made)
  } catch {
    // A read-only home only costs the incremental upload of the context.
  }
  return made
}

async function linkIfThere(target: string, link: string): Promise<void> {
  try {
    await access(target)
  } catch {
    return
  }
  await symlink(path.resolve(target), link)
}

/** buildx walks this folder without following links to folders (util/dockerutil), so only files are linked. */
async function linkRegistryConfigs(from: string, to: string): Promise<void> {
  let entries: string[]
  try {
    entries = await readdir(from, { recursive: true })
  } catch {
    return
  }
  for (const entry of entries) {
    if (path.basename(entry) !== 'config.json') continue
    const link = path.join(to, entry)
    await mkdir(path.dirname(link), { recursive: true, mode: 0o700 })
    await symlink(path.resolve(from, entry), link)
  }
}

/** The fields of an OCI platform, as Go writes them. */
function platformObject(platform: string) {
  const [os = '', architecture = '', variant] = platform.split('/')
  return variant === undefined ? { os, architecture } : { os, architecture, variant }
}
