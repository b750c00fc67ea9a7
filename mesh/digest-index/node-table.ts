/**
 * Which node has which number in the rows.
 *
 *     free ──take──▶ taken ──assign──▶ a node's ──replaced or dropped──▶ retired ──scrubbed──▶ free
 *
 * A retired number is still in rows, so it masks as dead until a walk over the whole index has taken it out.
 * What was taken and never assigned (a snapshot that broke off) is retired at the next start.
 */
import { z } from 'zod'
import { HearthError } from '../../core/errors.ts'
import { nodeNumbersMax } from '../limits.ts'
import type { IndexedNode, Position } from './index.ts'
import { isSet, setBit } from './row.ts'
import type { Tables } from './tables.ts'

export interface NodeTable {
  /** Bitset by number: whose content counts. */
  readonly alive: Uint8Array
  get(node: string): { number: number; position: Position } | undefined
  nodeOf(number: number): string | undefined
  list(): IndexedNode[]
  /** Every number in a row is below. */
  numbersUsed(): number
  take(): number
  /** Gives the node this number, and retires the one it had. Call in a transaction. */
  assign(node: string, number: number, position: Position): void
  /** Call in a transaction. */
  move(node: string, position: Position): void
  retire(number: number): void
  drop(node: string): void
  setAlive(node: string, alive: boolean): void
  retired(): number[]
  /** No row has these numbers any more. */
  free(numbers: readonly number[]): void
}

const nodeShape = z.object({ number: z.int(), epoch: z.int(), sequence: z.int() })
const numbersShape = z.array(z.int())

export function createNodeTable({ nodes, numbers }: Tables): NodeTable {
  const byNode = new Map<string, { number: number; position: Position }>()
  const byNumber = new Map<number, string>()
  const living = new Set<string>()
  const alive = new Uint8Array(nodeNumbersMax / 8)
  const unused = new Set(numbersShape.parse(numbers.get('free') ?? []))
  let next = z.int().parse(numbers.get('next') ?? 0)

  for (const { key, value } of nodes.getRange()) {
    const { number, epoch, sequence } = nodeShape.parse(value)
    byNode.set(key, { number, position: { epoch, sequence } })
    byNumber.set(number, key)
  }
  const gone = new Set<number>()
  for (let number = 0; number < next; number += 1) {
    if (!byNumber.has(number) && !unused.has(number)) gone.add(number)
  }

  function save(): void {
    numbers.putSync('free', [...unused])
    numbers.putSync('next', next)
  }

  function put(node: string, number: number, position: Position): void {
    byNode.set(node, { number, position })
    byNumber.set(number, node)
    nodes.putSync(node, { number, ...position })
    setBit(alive, number, living.has(node))
  }

  function retire(number: number): void {
    byNumber.delete(number)
    setBit(alive, number, false)
    gone.add(number)
  }

  return {
    alive,
    get: (node) => byNode.get(node),
    nodeOf: (number) => byNumber.get(number),
    list: () =>
      Array.from(byNode, ([node, { number, position }]) => ({
        node,
        number,
        position,
        alive: isSet(alive, number),
      })),
    numbersUsed: () => next,
    take() {
      const [free] = unused
      if (free !== undefined) unused.delete(free)
      else if (next >= nodeNumbersMax) {
        throw new HearthError('exhausted', 'the index of the mesh has no node number left', {
          hint: 'numbers of nodes that left are freed in the background; try again in a minute',
        })
      }
      const number = free ?? next++
      save()
      return number
    },
    assign(node, number, position) {
      const before = byNode.get(node)
      put(node, number, position)
      if (before !== undefined) retire(before.number)
    },
    move(node, position) {
      const known = byNode.get(node)
      if (known !== undefined) put(node, known.number, position)
    },
    retire,
    drop(node) {
      const known = byNode.get(node)
      living.delete(node)
      if (known === undefined) return
      byNode.delete(node)
      nodes.removeSync(node)
      retire(known.number)
    },
    setAlive(node, isAlive) {
      if (isAlive) living.add(node)
      else living.delete(node)
      const known = byNode.get(node)
      if (known !== undefined) setBit(alive, known.number, isAlive)
    },
    retired: () => [...gone],
    free(freed) {
      for (const number of freed) {
        gone.delete(number)
        unused.add(number)
      }
      save()
    },
  }
}
