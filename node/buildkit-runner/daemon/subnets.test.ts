import test from 'ava'
import fc from 'fast-check'
import { HearthError } from '../../../core/errors.ts'
import { chooseSubnet, overlaps, parseRange, widened } from './subnets.ts'

const within = parseRange('10.192.0.0/10')

test('a range is read with its first and last address', (t) => {
  t.deepEqual(parseRange('10.1.2.3/24'), { first: 0x0a010200, last: 0x0a0102ff })
  t.deepEqual(parseRange('10.1.2.3'), { first: 0x0a010203, last: 0x0a010203 })
  t.deepEqual(parseRange('0.0.0.0/0'), { first: 0, last: 0xffffffff })
  t.deepEqual(widened(parseRange('10.1.2.3')), parseRange('10.1.0.0/16'))
  t.deepEqual(widened(parseRange('10.0.0.0/12')), parseRange('10.0.0.0/12'))
})

for (const bad of ['', '10.1.2/24', '10.1.2.3/33', '10.1.2.3/', '10.1.2.3/24/1', 'fd00::/64']) {
  test(`"${bad}" is refused as a range`, (t) => {
    t.throws(() => parseRange(bad), { instanceOf: HearthError })
  })
}

test('a chosen subnet lies within the range and meets nothing that is taken', (t) => {
  const range = fc
    .tuple(
      fc.integer({ min: within.first - 70_000, max: within.last }),
      fc.integer({ min: 8, max: 32 }),
    )
    .map(([address, bits]) => {
      const size = 2 ** (32 - bits)
      const first = Math.floor(address / size) * size
      return { first, last: first + size - 1 }
    })
  fc.assert(
    fc.property(fc.array(range, { maxLength: 20 }), fc.string(), (taken, seed) => {
      const subnet = chooseSubnet({ within, taken, seed })
      if (subnet === undefined) return taken.some((other) => other.last - other.first > 2 ** 20)
      const chosen = parseRange(subnet)
      return (
        chosen.last - chosen.first === 255 &&
        chosen.first >= within.first &&
        chosen.last <= within.last &&
        !taken.some((other) => overlaps(other, chosen))
      )
    }),
  )
  t.pass()
})

test('the last free subnet is found, and none when all are taken', (t) => {
  const small = parseRange('10.200.0.0/22')
  const taken = ['10.200.0.0/24', '10.200.1.7', '10.200.3.0/25'].map(parseRange)
  t.is(chooseSubnet({ within: small, taken, seed: 'any' }), '10.200.2.0/24')
  t.is(
    chooseSubnet({ within: small, taken: [...taken, parseRange('10.200.2.255')], seed: 'any' }),
    undefined,
  )
})

test('the same seed prefers the same subnet', (t) => {
  const choose = (seed: string) => chooseSubnet({ within, taken: [], seed })
  t.is(choose('hth1'), choose('hth1'))
  t.not(choose('hth1'), choose('hth2'))
})
