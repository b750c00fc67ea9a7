/** The fragments that wait to be uploaded, in the order in which they came: durable, bounded, each once. */
import type { Digest } from '../../../core/digest.ts'
import { type Scope, scopeId, splitScopeId } from '../../../core/scope.ts'
import type { BlobInfo } from '../index.ts'
import { writeFragmentObject } from './fragment-object.ts'
import type { StoredFragment } from './index.ts'
import { type FragmentName, fragmentKey } from './location.ts'
import type { Tables } from './tables.ts'

export interface Queued extends FragmentName {
  readonly order: number
  /** Its object's key. */
  readonly key: string
  readonly blobs: readonly BlobInfo[]
}

export interface Added {
  readonly queued: Queued
  /** The same fragment with an older statement. */
  readonly superseded?: Queued
  /** The oldest, which gave way. */
  readonly pushedOut: readonly Queued[]
}

export interface Queue {
  /**
   * On disk when it resolves. What waits already is not queued again, but with another statement it takes the
   * place of the older one.
   * @throws HearthError `invalid-input` when it is too large, `exhausted` when the disk is full.
   */
  add(scope: Scope, digest: Digest, fragment: StoredFragment): Promise<Added>
  /** Oldest first. */
  list(): Queued[]
  /** The object to write; undefined when it does not wait any more. */
  object(queued: Queued): Buffer | undefined
  remove(queued: readonly Queued[]): Promise<void>
}

export function createQueue(tables: Tables, { fragmentsMax }: { fragmentsMax: number }): Queue {
  const waiting = new Map<string, Queued>()
  for (const { key: order, value } of tables.queue.getRange()) {
    const scope = splitScopeId(value.scope)
    const kind = value.kind ?? 'record'
    const key = fragmentKey({ scope, digest: value.digest, kind })
    const blobs = value.blobs.map(([digest, size]) => ({ digest, size }))
    waiting.set(key, { order, key, scope, digest: value.digest, kind, blobs })
  }
  let turn: Promise<unknown> = Promise.resolve()
  let last = Math.max(0, ...Array.from(waiting.values(), ({ order }) => order))

  async function remove(list: readonly Queued[]): Promise<void> {
    for (const queued of list) {
      if (waiting.get(queued.key)?.order === queued.order) waiting.delete(queued.key)
    }
    await tables.write(() => {
      for (const { order } of list) {
        tables.queue.removeSync(order)
        tables.objects.removeSync(order)
      }
    })
  }

  async function add(name: FragmentName, fragment: StoredFragment): Promise<Added> {
    const object = writeFragmentObject(fragment)
    const { blobs } = fragment
    const key = fragmentKey(name)
    const superseded = waiting.get(key)
    if (superseded !== undefined && tables.objects.get(superseded.order)?.equals(object) === true) {
      return { queued: superseded, pushedOut: [] }
    }
    last += 1
    const queued = { ...name, order: last, key, blobs }
    const row = {
      scope: scopeId(name.scope),
      digest: name.digest,
      kind: name.kind,
      blobs: blobs.map(({ digest, size }) => [digest, size] as const),
    }
    await tables.write(() => {
      tables.queue.putSync(queued.order, row)
      tables.objects.putSync(queued.order, object)
    })
    // At the end, where a new one belongs; and not before it is on disk.
    waiting.delete(key)
    waiting.set(key, queued)
    const pushedOut = [...waiting.values()].slice(0, Math.max(0, waiting.size - fragmentsMax))
    await remove(superseded === undefined ? pushedOut : [superseded, ...pushedOut])
    return { queued, pushedOut, ...(superseded === undefined ? {} : { superseded }) }
  }

  return {
    add(scope, digest, fragment) {
      const { kind = 'record' } = fragment
      const added = turn.then(() => add({ scope, digest, kind }, fragment))
      turn = added.catch(() => {})
      return added
    },
    list: () => [...waiting.values()],
    object: ({ order }) => tables.objects.get(order),
    remove,
  }
}
