/** A node before an object store with TLS: keeps a fragment, then fetches its blob by the exchange. A process of its own. */
import { once } from 'node:events'
import path from 'node:path'
import { createLogger } from '../../core/log.ts'
import { createExchange } from '../../mesh/exchange/index.ts'
import { openCacheStore } from '../../node/cache-store/index.ts'
import { createS3Tier, type S3TierOptions } from '../../node/cache-store/s3-tier/index.ts'
import { makeFragment, until } from '../../node/cache-store/s3-tier/tier.fixture.ts'
import { never, scope } from '../../node/cache-store/temporary-store.fixture.ts'
import { createNodeIdentities } from '../harness/node-identities.ts'

const [options] = (await once(process, 'message')) as [S3TierOptions]
await using identities = await createNodeIdentities()
const log = createLogger('warn')
await using store = await openCacheStore({ folder: path.join(options.folder, 'store'), log })
await using tier = await createS3Tier({ store, log }, options)
await using exchange = await createExchange(
  { blobs: { find: () => undefined }, log },
  { host: '127.0.0.1', port: 0, identity: await identities.issue('node-1') },
)
const fragment = await makeFragment(store, [9_000_000])
const [blob] = fragment.blobs
if (blob === undefined) throw new Error('the fragment names no blob')
let isKept = false
const kept = tier.keep(scope, fragment).then(() => {
  isKept = true
})
kept.catch(() => {})
await until(() => isKept || tier.state().trouble !== undefined)
const { trouble } = tier.state()
if (trouble !== undefined) process.send?.({ trouble })
else {
  const outcome = await exchange.fetch({
    scope,
    ...blob,
    file: path.join(options.folder, 'fetched'),
    sources: [{ type: 'url', name: tier.name, url: await tier.urlOf(blob.digest) }],
    signal: never,
  })
  process.send?.({ outcome: outcome.type })
}
process.disconnect()
