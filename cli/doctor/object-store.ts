/** The object store behind all nodes, tried as a node would use it. */
import { checkObjectStore } from '../../node/cache-store/s3-tier/check.ts'
import type { NodeSettings } from '../node-settings.ts'
import type { Finding } from './check.ts'

/** @throws HearthError with what is wrong, and the remedy. */
export async function tryObjectStore(
  { url, endpoint }: NonNullable<NodeSettings['s3']>,
  { signal }: { signal: AbortSignal },
): Promise<Finding> {
  const startedAtMs = performance.now()
  await checkObjectStore({ url, ...(endpoint === undefined ? {} : { endpoint }) }, { signal })
  const tookMs = Math.round(performance.now() - startedAtMs)
  return { state: 'ok', found: `${url} can be read and written (${tookMs} ms)` }
}
