import test from 'ava'
import { parseTarget } from './routes.ts'

const repository = { capability: 'c0ffee', name: 'cache' }

for (const target of ['/v2', '/v2/', '/v2/?x=1']) {
  test(`${target} is the ping`, (t) => {
    t.deepEqual(parseTarget(target).route, { type: 'ping' })
  })
}

test('each kind of path is told by its end', (t) => {
  const route = (path: string) => parseTarget(`/v2/c0ffee/cache/${path}`).route
  t.deepEqual(route('blobs/sha256:1'), { type: 'blob', repository, digest: 'sha256:1' })
  t.deepEqual(route('blobs/sha256%3A1'), { type: 'blob', repository, digest: 'sha256:1' })
  t.deepEqual(route('manifests/v1'), { type: 'manifest', repository, reference: 'v1' })
  t.deepEqual(route('blobs/uploads'), { type: 'uploads', repository })
  t.deepEqual(route('blobs/uploads/?digest=x'), { type: 'uploads', repository })
  t.deepEqual(route('blobs/uploads/77'), { type: 'upload', repository, id: '77' })
})

test('a name may have several components, even the words that end a path', (t) => {
  const { route } = parseTarget('/v2/c0ffee/a/blobs/manifests/b_c/manifests/latest')
  t.deepEqual(route, {
    type: 'manifest',
    repository: { capability: 'c0ffee', name: 'a/blobs/manifests/b_c' },
    reference: 'latest',
  })
})

for (const target of [
  '',
  '/',
  '*',
  '/v1/x',
  '/v2/c0ffee/blobs/sha256:1',
  '/v2/c0ffee/UPPER/blobs/x',
  '/v2/c0ffee/../blobs/x',
  '/v2/c0ffee/cache/blobs/',
  '/v2/c0ffee/cache/nothing/x',
  '/v2/c0ffee/cache/blobs/%zz',
  '/v2//cache/blobs',
  `/v2/c0ffee/${'a/'.repeat(2000)}blobs/x`,
]) {
  test(`"${target.slice(0, 40)}" is no path of the endpoint`, (t) => {
    t.is(parseTarget(target).route.type, 'unknown')
  })
}
