import test from 'ava'
import { contextTransferSeconds } from './context-transfer.ts'

const vertex = (name: string, started: string, completed?: string) =>
  JSON.stringify({ vertexes: [{ digest: 'sha256:1', name, started, completed }] })

test('the transfer lasts from the start of its vertex to its end', (t) => {
  const progress = [
    vertex(
      '[internal] load build definition from Dockerfile',
      '2024-01-01T00:00:00Z',
      '2024-01-01T00:00:09Z',
    ),
    vertex('[internal] load build context', '2024-01-01T00:00:10.000Z'),
    vertex('[internal] load build context', '2024-01-01T00:00:10.000Z', '2024-01-01T00:00:12.500Z'),
    'hearth: built in 3.0 s',
  ].join('\n')
  t.is(contextTransferSeconds(progress), 2.5)
})

test('a transfer that never ended is no measurement', (t) => {
  const progress = vertex('[internal] load build context', '2024-01-01T00:00:10Z')
  t.throws(() => contextTransferSeconds(progress), { message: /no finished context transfer/ })
})
