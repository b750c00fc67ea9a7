/**
 * What this pool holds of the machine: its data folder, and a link and subnet per daemon. Every Hearth
 * writes its claims into one folder under one lock, so that two never meet; claims of those that died
 * without a farewell are swept, together with the processes, links and rules behind them.
 *
 *   <machine folder>/lock              held while claims are read and made
 *   <machine folder>/pools/ID.json     one pool's claims
 *   <machine folder>/pools/ID/         its sockets
 *
 * Nothing here needs to survive a restart of the machine: no process, link or rule does.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, readlink, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { describeError, HearthError, hasErrno } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import { controlGroupOf, removeControlGroup } from './control-groups.ts'
import { lockMachine } from './machine-lock.ts'
import {
  bridgePrefix,
  type DaemonNetwork,
  layOut,
  removeNetwork,
  takenRanges,
} from './machine-network.ts'
import {
  endProcess,
  identifyProcess,
  isAlive,
  type ProcessIdentity,
  processIdentitySchema,
} from './processes.ts'
import { type AddressRange, chooseSubnet, parseRange } from './subnets.ts'

export interface MachineClaims extends AsyncDisposable {
  /** This pool's folder for sockets: short, 0700, gone when the claims are given back. */
  readonly socketFolder: string
  /**
   * Claims a link's name and a subnet for a scope's daemon, free of whatever an earlier one left behind.
   * @throws HearthError `exhausted` when no subnet is free.
   */
  claimNetwork(scope: Scope): Promise<DaemonNetwork>
  /** Remembers the process, for whoever has to clean up after us. */
  recordProcess(scope: Scope, daemon: ProcessIdentity): Promise<void>
  /** Removes what an ended daemon left on the machine, and gives its network back. */
  releaseNetwork(scope: Scope): Promise<void>
}

const claimVersion = 1

const ownNetwork = '/proc/self/ns/net'

const claimedDaemonSchema = z.object({
  bridge: z.string().regex(/^[a-z0-9]{1,15}$/),
  subnet: z.string(),
  process: processIdentitySchema.optional(),
})
type ClaimedDaemon = z.infer<typeof claimedDaemonSchema>

const poolSchema = z.object({
  version: z.literal(claimVersion),
  owner: processIdentitySchema,
  /** Of the owner, for example `net:[4026531840]`: its daemons' links and the rules about them are there. */
  networkNamespace: z.string().optional(),
  /** The data folder, without symbolic links. */
  folder: z.string(),
  daemons: z.record(z.string(), claimedDaemonSchema),
})
type ClaimedPool = z.infer<typeof poolSchema>

/** A unix socket's path, with its closing zero, has 108 bytes (unix(7)); this is what a folder may have of them. */
const socketFolderBytesMax = 107 - '/hth0123456789ab.trace'.length

/** Between a Hearth's death and the TERM of its daemons there is no time; this is how long they may take. */
const orphanPatienceMs = 3_000

/**
 * Sweeps what dead Hearths left, then claims the data folder.
 * @param options.folder the data folder, existing, as `realpath` gives it.
 * @param options.machineFolder the same for all Hearths of a machine: `/run/hearth`.
 * @param options.addresses CIDR from which subnets are taken.
 * @throws HearthError `environment` when a living Hearth uses the same data folder.
 */
export async function claimMachine(
  deps: { log: Logger },
  options: { folder: string; machineFolder: string; addresses: string },
): Promise<MachineClaims> {
  const { log } = deps
  const within = parseRange(options.addresses)
  const poolsFolder = path.join(options.machineFolder, 'pools')
  const lockFile = path.join(options.machineFolder, 'lock')
  const id = randomBytes(6).toString('hex')
  const socketFolder = path.join(poolsFolder, id)
  if (Buffer.byteLength(socketFolder) > socketFolderBytesMax) {
    throw new HearthError(
      'invalid-input',
      `${options.machineFolder} is too long a path for sockets`,
      {
        hint: 'choose one of at most 60 characters',
      },
    )
  }
  const recordFile = `${socketFolder}.json`
  const owner = await identifyProcess(process.pid)
  if (owner === undefined) throw new HearthError('environment', '/proc does not show this process')
  const networkNamespace = await readlink(ownNetwork)
  const daemons: Record<ScopeId, ClaimedDaemon> = {}

  // Writes of one file one after another: the last state wins.
  let written: Promise<void> = Promise.resolve()
  const write = (): Promise<void> => {
    const { folder } = options
    const record: ClaimedPool = { version: claimVersion, owner, networkNamespace, folder, daemons }
    written = written
      .catch(() => {})
      .then(() => replaceFile(recordFile, `${JSON.stringify(record)}\n`))
    return written
  }

  await mkdir(poolsFolder, { recursive: true, mode: 0o700 })
  {
    await using _lock = await lockMachine(lockFile)
    for (const [file, pool] of await readPools(poolsFolder, log)) {
      if (!(await isAlive(pool.owner))) {
        const isElsewhere =
          pool.owner.bootId === owner.bootId &&
          (pool.networkNamespace ?? networkNamespace) !== networkNamespace
        await sweep(file, pool, {
          log,
          isElsewhere,
          mustSucceed: pool.folder === options.folder,
        })
      } else if (pool.folder === options.folder) {
        throw new HearthError(
          'environment',
          `${options.folder} is in use by process ${pool.owner.pid}`,
          { hint: 'end that Hearth first, or name another folder with --data' },
        )
      }
    }
    await removeStrays(poolsFolder)
    // First the record: killed in between, there is nothing that no record names.
    await write()
    await mkdir(socketFolder, { mode: 0o700 })
  }

  async function claimSubnet(key: ScopeId): Promise<DaemonNetwork> {
    const bridge = bridgeName(options.folder, key)
    await using _lock = await lockMachine(lockFile)
    const pools = await readPools(poolsFolder, log)
    const taken: AddressRange[] = await takenRanges()
    for (const pool of pools.values()) {
      for (const claimed of Object.values(pool.daemons)) taken.push(parseRange(claimed.subnet))
    }
    const subnet = chooseSubnet({ within, taken, seed: bridge })
    if (subnet === undefined) {
      throw new HearthError('exhausted', `no /24 of ${options.addresses} is free on this machine`, {
        hint: 'give the node another range of addresses for its builds',
      })
    }
    daemons[key] = { bridge, subnet }
    await write()
    return layOut({ bridge, subnet })
  }

  return {
    socketFolder,

    async claimNetwork(scope) {
      const key = scopeId(scope)
      const earlier = daemons[key]
      // Still here only if it could not be given back.
      if (earlier !== undefined) await removeLeavings(earlier)
      const network = await claimSubnet(key)
      await removeNetwork(network)
      return network
    },

    async recordProcess(scope, daemon) {
      const claimed = daemons[scopeId(scope)]
      if (claimed === undefined) return
      claimed.process = daemon
      await write()
    },

    async releaseNetwork(scope) {
      const claimed = daemons[scopeId(scope)]
      if (claimed === undefined) return
      await removeLeavings(claimed)
      delete daemons[scopeId(scope)]
      await write()
    },

    async [Symbol.asyncDispose]() {
      await written.catch(() => {})
      await rm(socketFolder, { recursive: true, force: true })
      await rm(recordFile, { force: true })
    },
  }
}

/** A reader sees the old content or the new. Not synced: no claim outlives a power cut. */
async function replaceFile(file: string, content: string): Promise<void> {
  await writeFile(`${file}.new`, content, { mode: 0o600 })
  await rename(`${file}.new`, file)
}

/** The same for the same data folder and scope, and nobody else's: 48 bits of a hash over both. */
function bridgeName(folder: string, scope: ScopeId): string {
  const hash = createHash('sha256').update(folder).update('\0').update(scope).digest('hex')
  return `${bridgePrefix}${hash.slice(0, 12)}`
}

async function readPools(folder: string, log: Logger): Promise<Map<string, ClaimedPool>> {
  const pools = new Map<string, ClaimedPool>()
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.json')) continue
    const file = path.join(folder, name)
    try {
      pools.set(file, poolSchema.parse(JSON.parse(await readFile(file, 'utf8'))))
    } catch (error) {
      // Perhaps of a newer Hearth: its networks still show in the machine's addresses.
      if (!hasErrno(error, 'ENOENT')) log.warn({ error, file }, 'passing over unreadable claims')
    }
  }
  return pools
}

async function sweep(
  file: string,
  pool: ClaimedPool,
  context: { log: Logger; mustSucceed: boolean; isElsewhere: boolean },
): Promise<void> {
  const { log } = context
  log.info(
    { folder: pool.folder, daemons: Object.keys(pool.daemons), process: pool.owner.pid },
    'cleaning up after a Hearth that was killed',
  )
  try {
    for (const daemon of Object.values(pool.daemons)) {
      if (daemon.process !== undefined) {
        await endProcess(daemon.process, { patienceMs: orphanPatienceMs })
      }
    }
    // Another namespace's links and rules do not show here: the record waits for who starts there.
    if (context.isElsewhere) return
    for (const daemon of Object.values(pool.daemons)) await removeLeavings(daemon)
    await rm(file.slice(0, -'.json'.length), { recursive: true, force: true })
    await rm(`${file}.new`, { force: true })
    await rm(file)
  } catch (error) {
    if (context.mustSucceed) throw error
    log.warn(
      { error: describeError(error), folder: pool.folder },
      'could not clean up; trying later',
    )
  }
}

/**
 * Removes what no record stands for: of one who was killed while it wrote its first record, or gave the last
 * one back. Under the lock nobody alive is at either.
 */
async function removeStrays(folder: string): Promise<void> {
  const names = await readdir(folder)
  const ids = new Set(names.flatMap((name) => (name.endsWith('.json') ? name.slice(0, -5) : [])))
  for (const name of names) {
    const id = name.replace(/\.json(\.new)?$/, '')
    if (!ids.has(id)) await rm(path.join(folder, name), { recursive: true, force: true })
  }
}

async function removeLeavings(daemon: ClaimedDaemon): Promise<void> {
  await removeNetwork(daemon)
  await removeControlGroup(controlGroupOf(daemon.bridge))
}
