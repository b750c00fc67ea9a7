import test from 'ava'
import { createBranches, stepsThatRan } from './branches.ts'

test('steps that ran are told from cached ones, and from what is no step', (t) => {
  const progress = [
    '#1 [internal] load build definition from Dockerfile',
    '#1 DONE 0.0s',
    '#4 [tools 1/3] FROM registry/busybox:1',
    '#4 DONE 0.0s',
    '#5 [tools 2/3] WORKDIR /tools',
    '#5 CACHED',
    '#6 [stage-1 3/8] RUN head -c 5 /dev/urandom > x',
    '#6 0.1 some output: #5 DONE',
    '#6 DONE 0.2s',
    '#7 [linux/amd64 stage-1 4/8] COPY source source',
    '#7 sha256:abc 1B / 1B done',
    '#7 DONE 0.2s',
    '#8 [stage-1 5/8] RUN false',
    '#8 ERROR: exit code 1',
    '#9 exporting to image',
    '#9 DONE 0.1s',
  ].join('\n')
  t.is(stepsThatRan(progress), 2)
  t.is(stepsThatRan(''), 0)
})

test('all branches have the same steps, and sources of their own', async (t) => {
  await using branches = await createBranches('base')
  t.is(branches.all.length, 4)
  t.is(branches.stepsEach, 11)
})
