/**
 * What the solves of a scope may run, so that a step which starts is known by its command: which of its mounts have
 * which id, and whether it asked for empty ones.
 */
import { type MountedStep, mountedSteps, type StepMount } from '../../../plan/mounted-steps.ts'
import type { MountLessons } from './index.ts'
import type { StepSpec } from './step-spec.ts'

export interface StepTable {
  learn(): MountLessons
  /** Its mounts by target; undefined for a step of which nobody has heard. */
  find(spec: StepSpec): FoundStep | undefined
}

export interface FoundStep {
  readonly ignoresCache: boolean
  readonly mounts: readonly StepMount[]
}

/** Steps that are remembered after their solves: a replay or a shared run may come later. */
const rememberedMax = 5_000

export function createStepTable(): StepTable {
  /** The last that was said of each, the last said last. */
  const remembered = new Map<string, MountedStep>()
  /** Of solves that go on: how many want the step to ignore the cache. */
  const ignoring = new Map<string, number>()

  function count(key: string, by: 1 | -1): void {
    const left = (ignoring.get(key) ?? 0) + by
    if (left > 0) ignoring.set(key, left)
    else ignoring.delete(key)
  }

  return {
    learn() {
      const own: string[] = []
      const seen = new Set<string>()
      return {
        definition(definition) {
          for (const step of mountedSteps(definition)) {
            const key = keyOf(step.args, step.folder, step.mounts)
            remembered.delete(key)
            remembered.set(key, step)
            if (step.ignoresCache && !seen.has(key)) {
              seen.add(key)
              own.push(key)
              count(key, 1)
            }
          }
          for (const oldest of remembered.keys()) {
            if (remembered.size <= rememberedMax) break
            remembered.delete(oldest)
          }
        },
        [Symbol.dispose]() {
          for (const key of own.splice(0)) count(key, -1)
        },
      }
    },
    find({ args, folder, mounts }) {
      const targets = new Set(mounts.map(({ target }) => target))
      // The command alone may stand for several steps: the one with all its mounts there is it.
      for (const [key, step] of [...remembered].reverse()) {
        if (!isSameCommand(step, args, folder)) continue
        if (!step.mounts.every(({ target }) => targets.has(target))) continue
        return { ignoresCache: ignoring.has(key), mounts: step.mounts }
      }
      return undefined
    },
  }
}

function isSameCommand(step: MountedStep, args: readonly string[], folder: string): boolean {
  return (
    step.folder === folder &&
    step.args.length === args.length &&
    step.args.every((arg, index) => arg === args[index])
  )
}

function keyOf(args: readonly string[], folder: string, mounts: readonly StepMount[]): string {
  return JSON.stringify([args, folder, mounts.map(({ target, id }) => [target, id])])
}
