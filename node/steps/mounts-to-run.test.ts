import test from 'ava'
import { Plan, PlannedStep } from '../../proto/generated/hearth/v1/plan.ts'
import { mountsToRun } from './mounts-to-run.ts'

const step = (key: string, id: string, more: Partial<PlannedStep> = {}) =>
  PlannedStep.fromPartial({ key, cacheMounts: [{ id, sharing: 'shared' }], ...more })

test('mounts are wanted of steps that run, and not of those that begin with empty ones', (t) => {
  const plans = [
    Plan.fromPartial({
      steps: [step('a', '/hit'), step('b', '/runs'), step('', '/unknown')],
    }),
    Plan.fromPartial({
      steps: [step('c', '/runs'), step('d', '/empty', { runsAnyway: true })],
    }),
  ]
  t.deepEqual(mountsToRun({ plans, expectedHits: ['a'] }), ['/runs', '/unknown'])
})
