/**
 * What one route is: the coordinator's own choice of a node for a plan, among all nodes that it knows, and what the
 * chosen one and its runners-up hold of the digests that the build may move. State, directory, outlook and index are
 * the real ones.
 */
import { randomBytes } from 'node:crypto'
import { type Choice, chooseNodes } from '../../coordinator/builds/choose-nodes.ts'
import { createOutlook } from '../../coordinator/builds/index.ts'
import { createNodeDirectory, type NodeDirectory } from '../../coordinator/nodes/index.ts'
import { createStepHeat } from '../../coordinator/routing/index.ts'
import type { State } from '../../coordinator/state/index.ts'
import { type Digest, digestOf, parseDigest } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import { type DigestIndex, type IndexKey, keyOfDigest, keyOfStep } from '../../mesh/index.ts'
import { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import { Plan, PlannedStep } from '../../proto/generated/hearth/v1/plan.ts'
import type { SeededRandom } from '../routing/seeded-random.ts'
import type { Catalogue } from './catalogue.ts'

export interface RouteWork {
  /** Of which nothing has been asked yet. The earlier one is over. */
  makeQuestion(random: SeededRandom): RouteQuestion
  ask(question: RouteQuestion): Promise<RouteAnswer>
}

export interface RouteQuestion {
  readonly plan: Plan
  readonly digests: readonly Digest[]
}

export interface RouteAnswer {
  readonly choice: Choice | undefined
  /** How many of the digests the chosen node and each runner-up hold. */
  readonly held: readonly number[]
}

const stepCount = 60
const digestCount = 500
/** Of the steps, those that somebody has run before. */
const knownSteps = 40
/** Builds that are placed and not over, all nodes together. */
const buildsUnderWay = 200
const platform = 'linux/amd64'
const scope = makeScope('app', 'main')
const signal = new AbortController().signal

export function createRouteWork(deps: {
  state: State
  index: DigestIndex
  catalogue: Catalogue
}): RouteWork {
  const { state, index, catalogue } = deps
  const directory = createNodeDirectory({ state, log: silentLogger }, { heartbeatMs: 3_600_000 })
  /** The catalogue's keys are no hashes of step keys: for what the router asks stands what the catalogue has. */
  const standIns = new Map<string, IndexKey>()
  const catalogued = {
    numberOf: index.numberOf,
    survey: (keys: readonly IndexKey[]) =>
      index.survey(keys.map((key) => standIns.get(textOf(key)) ?? key)),
  }
  const outlook = createOutlook(
    { directory, heat: createStepHeat({ index: catalogued, peerOf: (nodeId) => nodeId }) },
    { heartbeatMs: 3_600_000, now: Date.now },
  )
  fillDirectory(state, directory, catalogue)
  for (let build = 0; build < buildsUnderWay; build += 1) {
    const nodeId = catalogue.nodeNames[(build * 7) % catalogue.nodeNames.length] ?? ''
    const expected = { nodeId, workMs: 20_000, plans: [], layersMs: 0 }
    outlook.underWay.placed(`build-${build}`, expected)
    outlook.underWay.granted(`build-${build}`, nodeId)
  }

  return {
    makeQuestion(random) {
      standIns.clear()
      const steps: PlannedStep[] = []
      for (let step = 0; step < stepCount; step += 1) {
        const key = digestOf(randomBytes(16))
        const known = step < knownSteps ? catalogue.drawHeld(random) : catalogue.drawUnknown(random)
        standIns.set(textOf(keyOfStep(scope, key)), known)
        const inputs = [step - 1, step - 5].flatMap((input) => steps[input]?.key ?? [])
        const operationDigest = operationOf(step)
        steps.push(PlannedStep.create({ key, operationDigest, inputs, name: `[${step}/60] RUN` }))
      }
      return {
        plan: Plan.create({ platform, steps }),
        digests: Array.from({ length: digestCount }, () => digestWith(catalogue.drawHeld(random))),
      }
    },
    async ask({ plan, digests }) {
      const request = { scope, platforms: [platform], plans: [plan] }
      const [choice] = await chooseNodes({ state, directory, outlook }, request, {
        waitMs: 0,
        signal,
      })
      return { choice, held: heldOf(index, choice, digests) }
    },
  }
}

function heldOf(
  index: DigestIndex,
  choice: Choice | undefined,
  digests: readonly Digest[],
): RouteAnswer['held'] {
  const survey = index.survey(digests.map(keyOfDigest))
  const ranked = choice === undefined ? [] : [choice, ...choice.runnersUp]
  return ranked.map(({ nodeId }) => {
    const number = index.numberOf(nodeId)
    let held = 0
    for (let place = 0; place < digests.length && number !== undefined; place += 1) {
      if (survey.heat(place, number) !== undefined) held += 1
    }
    return held
  })
}

function fillDirectory(state: State, directory: NodeDirectory, catalogue: Catalogue): void {
  const nodes = catalogue.nodeNames.map((id) => ({
    ...{ id, name: id, platform, peerId: id, version: '0.1.0' },
    ...{ buildAddress: '10.0.0.1:1', controlAddress: '10.0.0.1:2', publicKeyHash: id },
    membership: new Uint8Array(400),
  }))
  // One sync of the disk for all of them.
  state.write(() => {
    for (const node of nodes) directory.join(node)
    for (let step = 0; step < stepCount; step += 1) {
      state.steps.put(scope.project, operationOf(step), 5_000, Date.now())
    }
  })
  for (const [place, id] of catalogue.nodeNames.entries()) {
    directory.heartbeat(id, NodeLoad.create({ slots: 2, slotsUsed: place % 3, queued: 0 }))
  }
}

function operationOf(step: number): Digest {
  return digestOf(`operation ${step}`)
}

function textOf(key: IndexKey): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
}

/** A digest whose key in the index this is. */
function digestWith(key: IndexKey): Digest {
  return parseDigest(`sha256:${Buffer.from(key).toString('hex').padEnd(64, '0')}`)
}
