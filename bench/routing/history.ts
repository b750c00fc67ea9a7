/**
 * A made-up history of builds, as a team makes them: a few projects of very different size and popularity,
 * branches that fork from main, commits that change a source line most of the time, now and then the list of
 * dependencies, seldom the base image.
 */
import { createHash } from 'node:crypto'
import { type Digest, digestOf } from '../../core/digest.ts'
import type { SeededRandom } from './seeded-random.ts'

export interface SimulatedBuild {
  readonly project: string
  /** Since the first build. */
  readonly arrivesAtMs: number
  readonly steps: readonly SimulatedStep[]
}

export interface SimulatedStep {
  /** Identity of operation and inputs: two builds with the same key can share the result. */
  readonly key: string
  /** Identity of the operation alone: what its recorded duration goes by. */
  readonly operation: string
  readonly inputs: readonly number[]
  /** What running it takes, without the noise of the day. */
  readonly runMs: number
  /** Of its result, the chain below included. */
  readonly layers: readonly { digest: Digest; bytes: number }[]
}

/** One step of every project's Dockerfile; its size is the project's. */
interface StepKind {
  name: string
  inputs: readonly number[]
  /** What in a commit makes it a step that nobody has run yet. */
  changesWith: Change
  seconds: number
  megabytes: number
}

type Change = 'base' | 'dependencies' | 'source' | 'tests'
const changes: readonly Change[] = ['base', 'dependencies', 'source', 'tests']

const stepKinds: readonly StepKind[] = [
  { name: 'packages', inputs: [], changesWith: 'base', seconds: 25, megabytes: 180 },
  { name: 'dependencies', inputs: [0], changesWith: 'dependencies', seconds: 40, megabytes: 250 },
  { name: 'generate', inputs: [1], changesWith: 'dependencies', seconds: 6, megabytes: 4 },
  { name: 'copy source', inputs: [2], changesWith: 'source', seconds: 0.2, megabytes: 5 },
  { name: 'compile', inputs: [3], changesWith: 'source', seconds: 15, megabytes: 60 },
  { name: 'test', inputs: [3], changesWith: 'tests', seconds: 12, megabytes: 1 },
  { name: 'assemble', inputs: [4, 5], changesWith: 'source', seconds: 1, megabytes: 40 },
]

interface Project {
  name: string
  weight: number
  size: number
  branches: Record<Change, number>[]
}

export interface HistoryOptions {
  builds: number
  projects: number
  /** Builds that come per second, all projects together. */
  buildsPerS: number
  /** Popularity of the n-th project is 1/n to this power: 0 is even. */
  skew: number
}

export function makeHistory(random: SeededRandom, options: HistoryOptions): SimulatedBuild[] {
  let version = 0
  const fresh = (): number => {
    version += 1
    return version
  }
  const projects = Array.from({ length: options.projects }, (_, index): Project => {
    const main = { base: fresh(), dependencies: fresh(), source: fresh(), tests: fresh() }
    return {
      name: `project-${index}`,
      weight: 1 / (index + 1) ** options.skew,
      size: random.noise(1.5),
      branches: [main],
    }
  })
  let atMs = 0
  return Array.from({ length: options.builds }, () => {
    atMs += random.gap(1000 / options.buildsPerS)
    const project = random.pick(projects, ({ weight }) => weight)
    const branch = branchToBuild(random, project)
    for (const change of changesOfCommit(random)) branch[change] = fresh()
    return { project: project.name, arrivesAtMs: atMs, steps: stepsOf(project, branch) }
  })
}

const branchesMax = 5

function branchToBuild(random: SeededRandom, project: Project): Record<Change, number> {
  const [main] = project.branches
  if (main !== undefined && project.branches.length < branchesMax && random.next() < 0.15) {
    const forked = { ...main }
    project.branches.push(forked)
    return forked
  }
  return random.pick(project.branches, (_, index) => (index === 0 ? 2 : 1))
}

/** Shares of commits; the rest builds again what was built before. */
function changesOfCommit(random: SeededRandom): readonly Change[] {
  const kind = random.next()
  if (kind < 0.03) return ['base', 'dependencies', 'source', 'tests']
  if (kind < 0.13) return ['dependencies', 'source', 'tests']
  if (kind < 0.75) return ['source', 'tests']
  if (kind < 0.85) return ['tests']
  return []
}

function stepsOf(project: Project, branch: Record<Change, number>): SimulatedStep[] {
  const steps: SimulatedStep[] = []
  for (const kind of stepKinds) {
    const below = kind.inputs.flatMap((input) => steps[input]?.key ?? [])
    // What changes early changes everything after it, through the keys of the inputs.
    const own = changes.slice(0, changes.indexOf(kind.changesWith) + 1).map((name) => branch[name])
    const key = hash([project.name, kind.name, ...own, ...below])
    const bytes = kind.megabytes * 1e6 * project.size
    const chain = steps[kind.inputs[0] ?? -1]?.layers ?? []
    steps.push({
      key,
      operation: `${project.name} ${kind.name}`,
      inputs: kind.inputs,
      runMs: kind.seconds * 1000 * project.size,
      layers: [...chain, { digest: digestOf(key), bytes }],
    })
  }
  return steps
}

function hash(parts: readonly unknown[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex')
}
