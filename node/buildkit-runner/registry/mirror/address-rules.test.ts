import os from 'node:os'
import test from 'ava'
import { isPublicAddress, isPublicTarget, lookupPublic } from './address-rules.ts'
import { parseUpstream } from './upstreams.ts'

for (const address of [
  '127.0.0.1',
  '127.8.8.8',
  '0.0.0.0',
  '10.1.2.3',
  '100.64.0.1',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  '64:ff9b::a9fe:a9fe',
  'fd00:ec2::254',
  'fe80::1',
  'fec0::1',
  'ff02::1',
  '2001:db8::1',
  '2002:7f00:1::',
  'localhost',
  '',
]) {
  test(`"${address}" is no public address`, (t) => {
    t.false(isPublicAddress(address))
  })
}

for (const address of ['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::6810:84e5']) {
  test(`${address} is public`, (t) => {
    t.true(isPublicAddress(address))
  })
}

test('no address of this machine is public to itself', (t) => {
  for (const own of Object.values(os.networkInterfaces()).flat()) {
    t.false(isPublicAddress(own?.address ?? ''))
  }
})

test('a redirect leads by https, on its own port, to a name or a public address', (t) => {
  const allowed = ['https://cdn.example.com/x?y=z', 'https://8.8.8.8/x', 'https://[2606:4700::1]/']
  for (const url of allowed) t.true(isPublicTarget(new URL(url)), url)
  for (const url of [
    'http://cdn.example.com/',
    'https://cdn.example.com:8443/',
    'https://user@cdn.example.com/',
    'https://127.0.0.1/',
    'https://0x7f.1/',
    'https://[::1]/',
    'ftp://cdn.example.com/',
  ]) {
    t.false(isPublicTarget(new URL(url)), url)
  }
})

test('a name that means the loopback is not connected to', async (t) => {
  for (const all of [true, false]) {
    const error = await new Promise((resolve) => lookupPublic('localhost', { all }, resolve))
    t.is((error as { code?: string } | null)?.code, 'forbidden')
  }
})

test('a registry is named as images name it', (t) => {
  t.deepEqual(parseUpstream('docker.io'), {
    host: 'docker.io',
    origin: 'https://registry-1.docker.io',
    slug: 'docker.io',
  })
  t.is(parseUpstream('registry.example.com:5000').origin, 'https://registry.example.com:5000')
  t.is(parseUpstream('registry.example.com:5000').slug, 'registry.example.com_5000')
  t.is(parseUpstream('127.0.0.1:5000').origin, 'http://127.0.0.1:5000')
  for (const wrong of [
    '',
    'https://docker.io',
    'docker.io/library',
    'UPPER.example',
    'a b',
    'a:b',
  ]) {
    t.throws(() => parseUpstream(wrong), { message: /is no registry to mirror/ })
  }
})
