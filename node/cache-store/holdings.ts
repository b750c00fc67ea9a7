/**
 * Who holds which blob: the rules over the rows.
 *
 * A blob is *gone* the instant a transaction decides to remove its row, even before that is committed, so
 * that nobody pins or opens what is about to be unlinked. A decision is made inside the transaction, where
 * pins cannot change.
 */
import type { Digest } from '../../core/digest.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { Accounts } from './accounts.ts'
import type { BlobIndex, RowWriter } from './blob-index.ts'
import type { BlobInfo } from './index.ts'
import { type Holding, projectOf } from './index-keys.ts'
import type { LastUse } from './last-use.ts'
import type { BlobNews } from './news.ts'
import type { PinCounts } from './pins.ts'

export interface Holdings {
  /** In bytes; undefined when no such blob is complete on disk. */
  size(digest: Digest): number | undefined
  owns(holding: Holding): boolean
  /** The size, if the scope owns the blob or has pinned it. */
  sees(holding: Holding): number | undefined
  /** Makes a blob, whose file is on disk, visible to a scope. */
  record(scope: ScopeId, blob: BlobInfo): Promise<void>
  /** Adds an owner to a blob that exists; undefined when it does not. */
  extend(scope: ScopeId, digest: Digest): Promise<BlobInfo | undefined>
  /** Ends holdings one by one; with the last goes the row, unless the blob is pinned. */
  release(list: readonly Holding[], options: { sparePinned: boolean }): Promise<Released[]>
  /** Removes the row with all its holdings: what it promises is not on disk. */
  forget(digest: Digest): Promise<BlobInfo | undefined>
  /** Removes the row if nobody owns or pins the blob any more. */
  forgetLoose(digest: Digest): Promise<BlobInfo | undefined>
}

export interface Released extends BlobInfo {
  readonly fate: 'still owned' | 'pinned' | 'gone'
}

/** What a transaction changes beside the rows: in effect once it is committed. */
interface Consequences {
  book(entry: (accounts: Accounts) => void): void
  came(blob: BlobInfo): void
  /** The blob counts as gone at once. */
  went(blob: BlobInfo): void
}

export function createHoldings(deps: {
  index: BlobIndex
  accounts: Accounts
  pins: PinCounts
  lastUse: LastUse
  news: BlobNews
}): Holdings {
  const { index, accounts, pins, lastUse, news } = deps
  /** Removed by a transaction that is not committed yet; the value tells whose removal it is. */
  const leaving = new Map<Digest, symbol>()

  const size = (digest: Digest) => (leaving.has(digest) ? undefined : index.size(digest))
  const owns = (holding: Holding) =>
    size(holding.digest) !== undefined && index.lastUsedAtMs(holding) !== undefined

  /** Runs a change; its consequences follow in the turn in which it is known to be committed. */
  async function transact<T>(change: (rows: RowWriter, then: Consequences) => T): Promise<T> {
    const token = Symbol('removal')
    const entries: ((accounts: Accounts) => void)[] = []
    const came: BlobInfo[] = []
    const went: Digest[] = []
    const then: Consequences = {
      book: (entry) => void entries.push(entry),
      came(blob) {
        entries.push((accounts) => accounts.blobAdded(blob.size))
        came.push(blob)
      },
      went({ digest, size }) {
        leaving.set(digest, token)
        entries.push((accounts) => accounts.blobRemoved(size))
        went.push(digest)
      },
    }
    try {
      const result = await index.write((rows) => change(rows, then))
      for (const entry of entries) entry(accounts)
      for (const blob of came) news.gained(blob)
      news.lost(went)
      return result
    } finally {
      for (const digest of went) if (leaving.get(digest) === token) leaving.delete(digest)
    }
  }

  const addOwner = (scope: ScopeId, blob: BlobInfo, rows: RowWriter, then: Consequences) => {
    const owners = index.owners(blob.digest)
    const atMs = lastUse.now()
    rows.putOwner({ scope, digest: blob.digest, lastUsedAtMs: atMs })
    if (!owners.includes(scope)) {
      const isFirst = !owners.some((owner) => projectOf(owner) === projectOf(scope))
      then.book((accounts) => accounts.ownerAdded(scope, blob.size, isFirst))
    }
    then.book((accounts) => accounts.used(scope, atMs))
  }

  const removeOwner = (holding: Holding, size: number, rows: RowWriter, then: Consequences) => {
    rows.removeOwner(holding)
    const left = index.owners(holding.digest)
    const isLast = !left.some((owner) => projectOf(owner) === projectOf(holding.scope))
    then.book((accounts) => accounts.ownerRemoved(holding.scope, size, isLast))
    return left
  }

  return {
    size,
    owns,
    sees(holding) {
      return pins.isPinnedBy(holding) || owns(holding) ? size(holding.digest) : undefined
    },
    record(scope, blob) {
      return transact((rows, then) => {
        if (index.size(blob.digest) === undefined) then.came(blob)
        rows.putBlob(blob)
        addOwner(scope, blob, rows, then)
      })
    },
    extend(scope, digest) {
      return transact((rows, then) => {
        const size = index.size(digest)
        if (size === undefined) return undefined
        addOwner(scope, { digest, size }, rows, then)
        return { digest, size }
      })
    },
    release(list, { sparePinned }) {
      return transact((rows, then) => {
        const released: Released[] = []
        for (const holding of list) {
          const { digest } = holding
          const size = index.size(digest)
          if (size === undefined || index.lastUsedAtMs(holding) === undefined) continue
          const isPinned = pins.isPinned(digest)
          if (isPinned && sparePinned) continue
          const left = removeOwner(holding, size, rows, then)
          if (left.length > 0) released.push({ digest, size, fate: 'still owned' })
          else if (isPinned) released.push({ digest, size, fate: 'pinned' })
          else {
            rows.removeBlob(digest)
            then.went({ digest, size })
            released.push({ digest, size, fate: 'gone' })
          }
        }
        return released
      })
    },
    forget(digest) {
      return transact((rows, then) => {
        const size = index.size(digest)
        if (size === undefined) return undefined
        for (const scope of index.owners(digest)) removeOwner({ scope, digest }, size, rows, then)
        rows.removeBlob(digest)
        then.went({ digest, size })
        return { digest, size }
      })
    },
    forgetLoose(digest) {
      return transact((rows, then) => {
        const size = index.size(digest)
        if (size === undefined || pins.isPinned(digest) || index.owners(digest).length > 0) {
          return undefined
        }
        rows.removeBlob(digest)
        then.went({ digest, size })
        return { digest, size }
      })
    },
  }
}
