import test from 'ava'
import { parseDestination } from './destinations.ts'
import { proxyPortsOnLoopback } from './loopback-proxies.ts'

test('ranges, addresses and ports are destinations', (t) => {
  t.deepEqual(parseDestination('192.0.2.0/24'), { type: 'range', range: '192.0.2.0/24' })
  t.deepEqual(parseDestination('192.0.2.7'), { type: 'range', range: '192.0.2.7' })
  const port = { type: 'port', address: '192.0.2.7', port: 4327 } as const
  t.deepEqual(parseDestination('192.0.2.7:4327'), port)
})

for (const text of ['2001:db8::1', '2001:db8::/32', '[2001:db8::1]:4327', '[::1]']) {
  test(`${text} is denied anyway`, (t) => {
    t.is(parseDestination(text), undefined)
  })
}

for (const text of [
  '',
  'host',
  'host:80',
  '192.0.2.7:',
  '192.0.2.7:99999',
  '192.0.2.7:1:2',
  '[x]',
]) {
  test(`"${text}" is no destination`, (t) => {
    t.throws(() => parseDestination(text), { message: /is no (destination|IPv4 range)/ })
  })
}

test('proxies on loopback are found in the environment, others are not', (t) => {
  const env = {
    HTTP_PROXY: 'http://127.0.0.1:3128',
    https_proxy: 'localhost:3129',
    ALL_PROXY: 'socks5://localhost',
    http_proxy: 'http://proxy.example:3128',
    HTTPS_PROXY: '',
  }
  t.deepEqual(proxyPortsOnLoopback(env).toSorted(), [1080, 3128, 3129])
  t.deepEqual(proxyPortsOnLoopback({ HTTP_PROXY: 'http://127.0.0.1' }), [80])
})
