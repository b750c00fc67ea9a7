/** What made a build differ from another: the first step that is not the other's, and what differs in it. */
import type { Fact, FactKind, Plan, PlannedStep } from './plan.ts'

export type Explanation =
  | { readonly type: 'same' }
  | {
      readonly type: 'different'
      readonly step: PlannedStep
      /** The step that had its place before; undefined for one that is new. */
      readonly before: PlannedStep | undefined
      /** Empty when what differs was not kept. */
      readonly differences: readonly Difference[]
    }

export interface Difference {
  readonly kind: FactKind
  readonly change: 'added' | 'changed' | 'removed'
  /** File, variable, image, mount. */
  readonly name: string
  /** For images, whose values may be shown. */
  readonly from?: string
  readonly to?: string
}

const differencesMax = 100

/** @param before an earlier plan of the same project and platform. */
export function explain(before: Plan, now: Plan): Explanation {
  const known = new Set(before.steps.map((step) => step.key))
  // Inputs come first: whatever differs further down follows from this one.
  const step = now.steps.find(({ key }) => key === undefined || !known.has(key))
  if (step === undefined) return { type: 'same' }
  const counterpart = counterpartOf(step, before, now)
  return {
    type: 'different',
    step,
    before: counterpart,
    differences: counterpart === undefined ? [] : compare(counterpart, step),
  }
}

/** The step of the earlier plan that it has taken the place of. */
function counterpartOf(step: PlannedStep, before: Plan, now: Plan): PlannedStep | undefined {
  const kept = new Set(now.steps.map(({ key }) => key))
  const gone = before.steps.filter(({ key }) => key === undefined || !kept.has(key))
  const sameInputs = gone.filter(({ inputs }) => inputs.join() === step.inputs.join())
  return (
    gone.find(({ name }) => name === step.name) ??
    sameInputs.find((one) => placeOf(one) === placeOf(step)) ??
    gone.find((one) => placeOf(one) === placeOf(step)) ??
    sameInputs[0]
  )
}

/** "[build 3/8]" and what instruction it is: where BuildKit's frontend says that a step stands. */
function placeOf({ name }: PlannedStep): string {
  const [, stage, instruction] = /^\[([^\]]*?)\s*\d+\/\d+\]\s*(\w+)/.exec(name) ?? []
  const number = /(\d+)\/\d+\]/.exec(name)?.[1]
  return stage === undefined ? name : `${stage} ${number} ${instruction}`
}

function compare(before: PlannedStep, now: PlannedStep): Difference[] {
  const old = new Map(before.facts.map((fact) => [factName(fact), fact]))
  const differences: Difference[] = []
  for (const fact of now.facts) {
    const other = old.get(factName(fact))
    old.delete(factName(fact))
    if (other === undefined) differences.push(difference('added', undefined, fact))
    else if (other.value !== fact.value) differences.push(difference('changed', other, fact))
  }
  for (const fact of old.values()) differences.push(difference('removed', fact, undefined))
  return causesFirst(differences).slice(0, differencesMax)
}

function factName({ kind, name }: Fact): string {
  return `${kind} ${name}`
}

function difference(
  change: Difference['change'],
  from: Fact | undefined,
  to: Fact | undefined,
): Difference {
  const { kind, name } = (to ?? from) as Fact
  if (kind !== 'image') return { kind, name, change }
  return {
    kind,
    name,
    change,
    ...(from === undefined ? {} : { from: from.value }),
    ...(to === undefined ? {} : { to: to.value }),
  }
}

/** What is a cause before what may be its echo: a changed argument often changes the command too. */
function causesFirst(differences: readonly Difference[]): Difference[] {
  const order: FactKind[] = [
    'image',
    'file',
    'document',
    'variable',
    'instruction',
    'mount',
    'source',
    'option',
  ]
  return differences.toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
}

/** One line for people: "src/main.go changed". */
export function describeDifference({ kind, change, name, from, to }: Difference): string {
  switch (kind) {
    case 'file':
      return `the file ${name} was ${change}`
    case 'variable':
      return `the build argument or variable ${name} was ${change}`
    case 'image':
      return from !== undefined && to !== undefined
        ? `the base image ${name} changed from ${shortDigest(from)} to ${shortDigest(to)}`
        : `the base image ${name} was ${change}`
    case 'instruction':
      return 'the instruction itself was changed'
    case 'mount':
      return `the mount at ${name} was ${change}`
    case 'document':
      return 'the text in the Dockerfile that it copies was changed'
    case 'source':
      return `the source ${name} was ${change}`
    case 'option':
      return 'its options (user, folder, network, platform or such) were changed'
  }
}

function shortDigest(digest: string): string {
  return digest.replace(/^(sha256:[0-9a-f]{12})[0-9a-f]+$/, '$1')
}
