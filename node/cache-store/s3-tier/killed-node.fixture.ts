/** A node that keeps two fragments so slowly that it can be killed meanwhile. Runs as a process of its own. */
import { once } from 'node:events'
import path from 'node:path'
import { mib } from '../../../core/limits.ts'
import { silentLogger } from '../../../core/log.ts'
import type { S3Server } from '../../../test/harness/index.ts'
import { openCacheStore } from '../index.ts'
import { scope } from '../temporary-store.fixture.ts'
import { createS3Tier } from './index.ts'
import { makeFragment, until } from './tier.fixture.ts'

const [start] = (await once(process, 'message')) as [
  { server: Omit<S3Server, 'process'>; url: string; folder: string },
]
const { endpoint, region, accessKeyId, secretAccessKey } = start.server
const store = await openCacheStore({ folder: path.join(start.folder, 'store'), log: silentLogger })
const tier = await createS3Tier(
  { store, log: silentLogger },
  {
    url: start.url,
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    folder: path.join(start.folder, 's3'),
    limits: { uploadBytesPerS: 4 * mib, partBytes: 5 * mib },
  },
)
const fragments = [await makeFragment(store, [30 * mib, 1000]), await makeFragment(store, [2000])]
const blobs = fragments.flatMap((fragment) => fragment.blobs)
for (const fragment of fragments) tier.keep(scope, fragment).catch(() => {})
await until(
  () => tier.state().queuedFragments === 2 && blobs.some(({ digest }) => tier.has(digest)),
)
process.send?.({ blobs })
