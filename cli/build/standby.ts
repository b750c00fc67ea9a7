/**
 * What a client keeps for the time that the coordinator is away: the endpoints of the last placement with a
 * certificate of 24 hours, by coordinator and project. Readable by its owner alone; worthless a day later.
 */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { formatVersions, writeFileDurably } from '../../core/format-version.ts'
import { standbyCertificateMs } from '../../core/limits.ts'
import type { Endpoint } from '../../proto/generated/hearth/v1/coordinator.ts'
import { stateFolder } from '../folders.ts'

export interface StandbyKeep {
  readonly privateKeyPem: string
  readonly endpoints: readonly StandbyEndpoint[]
}

export interface StandbyEndpoint {
  readonly nodeId: string
  readonly address: string
  readonly serverName: string
  readonly caPem: string
  readonly certificatePem: string
  readonly expiresAtMs: number
}

export function standbyEndpoint(endpoint: Endpoint): StandbyEndpoint {
  return {
    nodeId: endpoint.nodeId,
    address: endpoint.address,
    serverName: endpoint.serverName,
    caPem: endpoint.caPem,
    certificatePem: endpoint.clientCertificatePem,
    expiresAtMs: endpoint.expiresAt?.getTime() ?? 0,
  }
}

export interface StandbyKey {
  readonly coordinator: string
  readonly project: string
}

export async function saveStandby(
  env: NodeJS.ProcessEnv,
  key: StandbyKey,
  standby: StandbyKeep,
): Promise<void> {
  const file = standbyFile(env, key)
  const folder = path.dirname(file)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await removeExpired(folder)
  await writeFileDurably(file, JSON.stringify({ version: formatVersions.protocol, ...standby }))
}

/** Undefined when nothing usable is kept: none, expired, or of another version. */
export async function loadStandby(
  env: NodeJS.ProcessEnv,
  key: StandbyKey,
  now: Date,
): Promise<StandbyKeep | undefined> {
  let content: unknown
  try {
    content = JSON.parse(await readFile(standbyFile(env, key), 'utf8'))
  } catch {
    return undefined
  }
  const { standbySchema } = await import('./standby-schema.ts')
  const parsed = standbySchema.safeParse(content)
  if (!parsed.success) return undefined
  const endpoints = parsed.data.endpoints.filter((endpoint) => endpoint.expiresAtMs > now.getTime())
  return endpoints.length === 0 ? undefined : { ...parsed.data, endpoints }
}

/** Keys of certificates that nobody accepts any more. */
async function removeExpired(folder: string): Promise<void> {
  const oldestMs = Date.now() - standbyCertificateMs
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name)
    if ((await stat(file)).mtimeMs < oldestMs) await rm(file, { force: true })
  }
}

function standbyFile(env: NodeJS.ProcessEnv, key: StandbyKey): string {
  const coordinator = createHash('sha256').update(key.coordinator).digest('hex').slice(0, 12)
  return path.join(stateFolder(env), 'standby', `${key.project}-${coordinator}.json`)
}
