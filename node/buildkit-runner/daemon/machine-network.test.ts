import test from 'ava'
import { layOut, takenRanges } from './machine-network.ts'
import { overlaps, parseRange } from './subnets.ts'

test('what this machine uses is taken', async (t) => {
  const taken = await takenRanges()
  t.true(taken.some((range) => overlaps(range, parseRange('127.0.0.1'))))
  t.false(taken.some((range) => range.first === 0))
})

test('the link and the steps of a daemon have parts of what it claimed', (t) => {
  const subnet = '10.201.7.0/24'
  const { linkSubnet, stepSubnet, machineAddress, insideAddress } = layOut({ bridge: 'b', subnet })
  t.false(overlaps(parseRange(linkSubnet), parseRange(stepSubnet)))
  for (const part of [stepSubnet, machineAddress, insideAddress]) {
    t.true(overlaps(parseRange(part), parseRange(subnet)))
  }
  for (const address of [machineAddress, insideAddress]) {
    t.true(overlaps(parseRange(address), parseRange(linkSubnet)))
  }
})
