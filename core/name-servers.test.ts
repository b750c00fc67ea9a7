import test from 'ava'
import { chooseResolver } from './name-servers.ts'

test('name servers beyond loopback are kept, with what else the file says', (t) => {
  const own =
    'search corp.example\nnameserver 10.0.0.2\nnameserver 169.254.169.253\noptions ndots:2\n'
  t.deepEqual(chooseResolver(own, 'nameserver 1.2.3.4\n'), {
    content:
      'nameserver 10.0.0.2\nnameserver 169.254.169.253\nsearch corp.example\noptions ndots:2\n',
    nameServers: ['10.0.0.2', '169.254.169.253'],
  })
})

test('what a daemon cannot reach is left out: loopback, and IPv6', (t) => {
  const own = '# mine\nnameserver 127.0.0.1\nnameserver fd00::53\nnameserver 10.0.0.2\n'
  t.deepEqual(chooseResolver(own, undefined), {
    content: 'nameserver 10.0.0.2\n',
    nameServers: ['10.0.0.2'],
  })
})

test('behind systemd-resolved its own servers are asked', (t) => {
  const behind = 'nameserver 192.168.1.1\nsearch home\n'
  t.deepEqual(chooseResolver('nameserver 127.0.0.53\n', behind), {
    content: 'nameserver 192.168.1.1\nsearch home\n',
    nameServers: ['192.168.1.1'],
  })
})

test('a machine that only asks itself has none for builds, and one without a file has no file', (t) => {
  t.deepEqual(chooseResolver('nameserver 127.0.0.1\n', undefined).nameServers, [])
  t.deepEqual(chooseResolver(undefined, undefined), { content: undefined, nameServers: [] })
})
