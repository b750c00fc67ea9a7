/**
 * A made-up mesh's content, the same for everybody who makes it from the same options: nodes that each hold so many
 * digests of a common pool, some digests in every node and most in few, as base images and build outputs are.
 *
 * How many nodes hold the digest of rank r falls with 1/r, and is all of them while that is more than there are.
 * Nothing is kept in memory, so that a process whose memory is measured can use it too.
 */
import { type ImportedRow, type IndexKey, keyBytes } from '../../mesh/index.ts'
import { type SeededRandom, seededRandom } from '../routing/seeded-random.ts'

export interface CatalogueOptions {
  readonly nodes: number
  readonly digestsPerNode: number
  /** Digests that there are, held by somebody or not; at least a tenth more than a node holds. */
  readonly pool: number
}

export interface Catalogue {
  readonly nodeNames: readonly string[]
  /** In key order; every node is in exactly `digestsPerNode` of them. */
  rows(): Iterable<ImportedRow>
  /** Of something that a node holds, each pair of node and digest as likely. */
  drawHeld(random: SeededRandom): IndexKey
  /** Of nothing that anybody holds. */
  drawUnknown(random: SeededRandom): IndexKey
  holdersOfRank(rank: number): number
}

/** Co-prime to every pool that is no multiple of it: spreads ranks evenly over the key space. */
const stride = 1_000_003
/** One holder in so many has it unpacked. */
const hotOneIn = 8
const hotBit = 0x8000
const megabyte = 1_000_000

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const { nodes, digestsPerNode, pool } = options
  const ubiquitous = solveUbiquitous(digestsPerNode, pool)
  const inverse = inverseOf(stride % pool, pool)

  /** Holders of all digests up to this rank, over the number of nodes. */
  const heldUpTo = (rank: number): number =>
    rank <= ubiquitous ? rank : ubiquitous * (1 + Math.log(rank / ubiquitous))

  const holdersOfRank = (rank: number): number =>
    Math.round(nodes * heldUpTo(rank + 1)) - Math.round(nodes * heldUpTo(rank))

  return {
    nodeNames: Array.from({ length: nodes }, (_, index) => `node-${index}`),
    holdersOfRank,
    *rows() {
      const random = seededRandom(1)
      const dealer = createDealer(nodes, random)
      for (let place = 0; place < pool; place += 1) {
        const holders = holdersOfRank((place * inverse) % pool)
        if (holders === 0) continue
        const size = Math.ceil(random.next() ** 4 * 100 * megabyte)
        yield { key: keyAt(place, pool), size, holders: dealer.deal(holders) }
      }
    },
    drawHeld(random) {
      for (;;) {
        const held = random.next() * digestsPerNode
        const rank = Math.floor(
          held <= ubiquitous ? held : ubiquitous * Math.exp(held / ubiquitous - 1),
        )
        if (rank < pool && holdersOfRank(rank) > 0) return keyAt((rank * stride) % pool, pool)
      }
    },
    drawUnknown(random) {
      const key = Buffer.from(keyAt(Math.floor(random.next() * pool), pool))
      key[keyBytes - 1] = (key[keyBytes - 1] ?? 0) ^ 1
      return key
    },
  }
}

/** The rank up to which everybody has everything, so that the whole comes out at what each node holds. */
function solveUbiquitous(digestsPerNode: number, pool: number): number {
  let [low, high] = [0, digestsPerNode]
  for (let step = 0; step < 100; step += 1) {
    const middle = (low + high) / 2
    if (middle * (1 + Math.log(pool / middle)) < digestsPerNode) low = middle
    else high = middle
  }
  return high
}

/** Ascending with the place, and otherwise as even as hashes are. */
function keyAt(place: number, pool: number): IndexKey {
  const random = seededRandom(place)
  const key = Buffer.alloc(keyBytes)
  key.writeUIntBE(Math.floor(((place + random.next()) / pool) * 2 ** 48), 0, 6)
  for (let offset = 6; offset < keyBytes; offset += 2) {
    key.writeUInt16BE(Math.floor(random.next() * 2 ** 16), offset)
  }
  return key
}

/**
 * Deals nodes to digests as from a shuffled deck, so that after full rounds each has had the same number.
 */
function createDealer(nodes: number, random: SeededRandom) {
  const deck = Uint16Array.from({ length: nodes }, (_, index) => index)
  const dealt = new Uint8Array(nodes)
  const hand = new Uint16Array(nodes)
  let next = nodes

  function shuffle(): void {
    for (let last = nodes - 1; last > 0; last -= 1) {
      swap(deck, last, Math.floor(random.next() * (last + 1)))
    }
    next = 0
  }

  /** What was dealt, in order: quicker than sorting where it is much. */
  function gather(): void {
    let length = 0
    for (let node = 0; node < nodes; node += 1) {
      if (dealt[node] === 1) hand[length++] = node
    }
  }

  return {
    /** Ascending, with `hotBit`; lent until the next deal. */
    deal(count: number): Uint16Array {
      for (let taken = 0; taken < count; taken += 1) {
        if (next === nodes) shuffle()
        // After a new shuffle one may come that this digest has had.
        let other = next
        while (dealt[deck[other] ?? 0] === 1) other += 1
        swap(deck, next, other)
        const node = deck[next] ?? 0
        dealt[node] = 1
        hand[taken] = node
        next += 1
      }
      if (count < nodes / 16) hand.subarray(0, count).sort()
      else gather()
      for (let index = 0; index < count; index += 1) {
        const node = hand[index] ?? 0
        dealt[node] = 0
        if ((node + index) % hotOneIn === 0) hand[index] = node | hotBit
      }
      return hand.subarray(0, count)
    },
  }
}

function swap(items: Uint16Array, a: number, b: number): void {
  const kept = items[a] ?? 0
  items[a] = items[b] ?? 0
  items[b] = kept
}

/** x with (a * x) % modulus = 1, by Euclid. @throws RangeError when there is none. */
function inverseOf(a: number, modulus: number): number {
  let [previous, rest] = [modulus, a]
  let [x, nextX] = [0, 1]
  while (rest !== 0) {
    const times = Math.floor(previous / rest)
    ;[previous, rest] = [rest, previous - times * rest]
    ;[x, nextX] = [nextX, x - times * nextX]
  }
  if (previous !== 1) throw new RangeError(`${a} and ${modulus} have a common divisor`)
  return ((x % modulus) + modulus) % modulus
}
