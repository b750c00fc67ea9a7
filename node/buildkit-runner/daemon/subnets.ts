/** IPv4 ranges, and the choice of a /24 that nobody on this machine uses. */
import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { HearthError } from '../../../core/errors.ts'

/** First and last address, both inclusive, as unsigned 32-bit numbers. */
export interface AddressRange {
  readonly first: number
  readonly last: number
}

/**
 * @param text "10.1.2.0/24", or one address.
 * @throws HearthError `invalid-input`
 */
export function parseRange(text: string): AddressRange {
  const [address = '', prefix = '32', ...rest] = text.split('/')
  const bits = Number(prefix)
  if (!isIPv4(address) || rest.length > 0 || !/^\d{1,2}$/.test(prefix) || bits > 32) {
    throw new HearthError('invalid-input', `"${text.slice(0, 60)}" is no IPv4 range`, {
      hint: 'write it like 10.192.0.0/10',
    })
  }
  const size = 2 ** (32 - bits)
  const value = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const first = Math.floor(value / size) * size
  return { first, last: first + size - 1 }
}

/** The range with everything in the same /16. */
export function widened(range: AddressRange): AddressRange {
  const size = 2 ** 16
  return {
    first: Math.floor(range.first / size) * size,
    last: Math.ceil((range.last + 1) / size) * size - 1,
  }
}

export function overlaps(left: AddressRange, right: AddressRange): boolean {
  return left.first <= right.last && right.first <= left.last
}

/**
 * The first free /24 within the range, counted from a place that the seed decides: the same daemon mostly
 * gets the same subnet again, and two Hearths seldom look at the same one.
 * Undefined when all are taken.
 */
export function chooseSubnet(request: {
  within: AddressRange
  taken: readonly AddressRange[]
  seed: string
}): string | undefined {
  const { within, taken, seed } = request
  const count = Math.floor((within.last - within.first + 1) / 256)
  const start = createHash('sha256').update(seed).digest().readUInt32BE(0)
  for (let step = 0; step < count; step++) {
    const first = within.first + ((start + step) % count) * 256
    const candidate = { first, last: first + 255 }
    if (!taken.some((range) => overlaps(range, candidate))) return `${formatAddress(first)}/24`
  }
  return undefined
}

function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}
