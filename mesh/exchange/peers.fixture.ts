/** Nodes that give each other blobs, in one process: each with its own thread, certificate and folder. */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import pino, { type Logger } from 'pino'
import { type Digest, digestOf } from '../../core/digest.ts'
import { makeScope } from '../../core/scope.ts'
import { createTemporaryFolder } from '../../test/harness/index.ts'
import { createNodeIdentities } from '../../test/harness/node-identities.ts'
import {
  type BlobSource,
  createExchange,
  type Exchange,
  type ExchangeOptions,
  type FetchOutcome,
} from './index.ts'

export const scope = makeScope('app', 'main')

export interface TestPeer {
  readonly nodeId: string
  readonly exchange: Exchange
  readonly source: BlobSource
  /** Its log, one line per entry. */
  readonly log: readonly string[]
  /** Gives this peer a blob; `claimed` is another digest than its own. */
  hold(bytes: Uint8Array, claimed?: Digest): Promise<Digest>
  /** Calls back the next time somebody asks for a blob. */
  onAsked(callback: (nothing?: undefined) => void): void
  fetch(
    blob: { digest: Digest; size: number },
    sources: readonly BlobSource[],
    options?: { signal?: AbortSignal },
  ): Promise<{ outcome: FetchOutcome; file: string }>
}

export interface TestPeers {
  add(nodeId: string, options?: Partial<ExchangeOptions>): Promise<TestPeer>
}

/** All that are added are members to each other. */
export async function createPeers(t: ExecutionContext): Promise<TestPeers> {
  const stack = new AsyncDisposableStack()
  t.teardown(() => stack.disposeAsync())
  const identities = stack.use(await createNodeIdentities())
  const exchanges = new Map<string, Exchange>()

  return {
    async add(nodeId, options = {}) {
      const folder = stack.use(await createTemporaryFolder('peer'))
      const held = new Map<Digest, { file: string; size: number }>()
      const log: string[] = []
      let asked = (): void => {}
      const exchange = stack.use(
        await createExchange(
          {
            blobs: {
              find(_scope, digest) {
                asked()
                return held.get(digest)
              },
            },
            log: collecting(log),
          },
          { host: '127.0.0.1', port: 0, identity: await identities.issue(nodeId), ...options },
        ),
      )
      exchanges.set(nodeId, exchange)
      for (const each of exchanges.values()) each.setMembers(exchanges.keys())
      let files = 0
      return {
        nodeId,
        exchange,
        source: { type: 'node', nodeId, host: '127.0.0.1', port: exchange.port },
        log,
        onAsked(callback) {
          asked = callback
        },
        async hold(bytes, claimed) {
          const digest = claimed ?? digestOf(bytes)
          const file = path.join(folder.path, `held-${randomBytes(8).toString('hex')}`)
          await writeFile(file, bytes)
          held.set(digest, { file, size: bytes.length })
          return digest
        },
        async fetch(blob, sources, { signal = AbortSignal.timeout(60_000) } = {}) {
          files += 1
          const file = path.join(folder.path, `fetched-${files}`)
          return { outcome: await exchange.fetch({ scope, ...blob, file, sources, signal }), file }
        },
      }
    },
  }
}

function collecting(lines: string[]): Logger {
  return pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
}
