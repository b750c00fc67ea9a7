/**
 * What a step's key is made of, piece by piece, so that a difference can be named. Values that may be secret
 * (build arguments end up in the environment) are kept as hashes.
 */
import { createHash } from 'node:crypto'
import type { Op } from '../proto/generated/buildkit/ops.ts'
import { canonicalForm, sourceKind } from './canonical.ts'
import type { ContentAnswer } from './content/index.ts'
import { isStep } from './operations.ts'
import type { Fact } from './plan.ts'
import type { KeyedVertex } from './step-keys.ts'

/** Of all its pieces, files above all: enough to name what a person has changed. */
const factsMax = 2_000

export function factsOf(keyed: KeyedVertex, answers: ReadonlyMap<string, ContentAnswer>): Fact[] {
  const facts = [...ownFacts(keyed), ...contentFacts(keyed, answers)]
  for (const input of keyed.inputs) {
    if (!isStep(input.vertex)) facts.push(...inputFacts(input, answers))
  }
  return facts.slice(0, factsMax)
}

/** What an input that is no step of its own adds: sources, heredocs, links. */
function inputFacts(keyed: KeyedVertex, answers: ReadonlyMap<string, ContentAnswer>): Fact[] {
  const { op } = keyed.vertex.op
  if (op?.$case === 'source') return sourceFacts(keyed.vertex.op)
  return factsOf(keyed, answers)
}

function sourceFacts(op: Op): Fact[] {
  if (op.op?.$case !== 'source') return []
  const kind = sourceKind(op.op.value)
  if (kind.type === 'local') return []
  if (kind.type === 'image') {
    return [{ kind: 'image', name: kind.reference, value: kind.digest ?? 'not pinned' }]
  }
  return [{ kind: 'source', name: op.op.value.identifier, value: hashOf(canonicalForm(op)) }]
}

function contentFacts(keyed: KeyedVertex, answers: ReadonlyMap<string, ContentAnswer>): Fact[] {
  return keyed.contents.flatMap(({ id, folderName }) => {
    const answer = answers.get(id)
    if (answer?.type !== 'read') return []
    const prefix = folderName === 'context' ? '' : `${folderName}:`
    return answer.files.map(
      ([file, value]): Fact => ({
        kind: 'file',
        name: `${prefix}${file}`,
        value: shortHash(value),
      }),
    )
  })
}

function ownFacts({ vertex }: KeyedVertex): Fact[] {
  const { op } = vertex.op
  if (op?.$case === 'exec') {
    const { meta, mounts } = op.value
    const form = canonicalForm(vertex.op)
    const options = Array.isArray(form) ? withoutParts(form[1]) : form
    return [
      { kind: 'instruction', name: 'command', value: hashOf(meta?.args ?? []) },
      ...(meta?.env ?? []).map((variable): Fact => {
        const equals = variable.indexOf('=')
        const name = equals === -1 ? variable : variable.slice(0, equals)
        return { kind: 'variable', name, value: shortHash(variable) }
      }),
      ...mounts
        .filter(({ dest }) => dest !== '/')
        .map((mount): Fact => ({ kind: 'mount', name: mount.dest, value: hashOf(mount) })),
      { kind: 'option', name: 'options', value: hashOf(options) },
    ]
  }
  if (op?.$case === 'file') {
    return op.value.actions
      .flatMap(({ action }): Fact[] => {
        if (action?.$case !== 'mkfile' || isStep(vertex)) return []
        return [
          { kind: 'document', name: action.value.path, value: hashOf([...action.value.data]) },
        ]
      })
      .concat(
        isStep(vertex)
          ? [{ kind: 'instruction', name: 'command', value: hashOf(canonicalForm(vertex.op)) }]
          : [],
      )
  }
  return [{ kind: 'option', name: op?.$case ?? 'nothing', value: hashOf(canonicalForm(vertex.op)) }]
}

/** The form of a RUN without what has facts of its own. */
function withoutParts(form: unknown): unknown {
  if (typeof form !== 'object' || form === null) return form
  const { args: _args, env: _env, mounts: _mounts, ...options } = form as Record<string, unknown>
  return options
}

function hashOf(value: unknown): string {
  return shortHash(JSON.stringify(value))
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 16)
}
