/** A plan as data: the steps of one build for one platform, with their keys and what they are made of. */
import type { Digest } from '../core/digest.ts'
import type { SourceLocation } from './graph.ts'
import type { CacheMount } from './operations.ts'

export interface Plan {
  /** "os/arch[/variant]" as it was asked for; '' for the builder's own. */
  readonly platform: string
  /** Inputs come before what uses them. Steps that lead to one result only. */
  readonly steps: readonly PlannedStep[]
  /** Why it says less than everything; empty when it is complete. */
  readonly partial: readonly PartialReason[]
  /** Digests of what the build reads from the client's folders, by the id of the request (step-keys.ts). */
  readonly contents: Readonly<Record<string, Digest>>
}

export interface PlannedStep {
  /** Undefined where content is unknown. */
  readonly key: Digest | undefined
  /** As the progress output names it. */
  readonly name: string
  readonly source: SourceLocation | undefined
  /** "os/arch[/variant]"; '' for steps that are the same on all platforms. */
  readonly platform: string
  /** Blind to content: what durations are known by. */
  readonly operationDigest: Digest
  /** Keys of the steps it builds on, by way of what is no step. */
  readonly inputs: readonly Digest[]
  /** Base images that it stands on directly. */
  readonly images: readonly { readonly reference: string; readonly digest: string | undefined }[]
  readonly cacheMounts: readonly CacheMount[]
  /** Somebody asked for it to run again. */
  readonly ignoresCache: boolean
  /** False: BuildKit will run it in any case. */
  readonly recognizable: boolean
  readonly doubt: Doubt
  /** What its key is made of, by kind and name: for the explanation of a difference. */
  readonly facts: readonly Fact[]
}

/**
 * Why BuildKit may decide otherwise than the key says, for this step or one that it stands on. `content`: it
 * reads selected files of another step's result, and is recognized by them although its key is new. `source`:
 * it stands on something that the key names and does not pin, such as an image's tag.
 */
export type Doubt = 'none' | 'content' | 'source'

export interface Fact {
  readonly kind: FactKind
  /** File name, variable, image, mount: what a person would call it. */
  readonly name: string
  /** Equal when nothing has changed. A hash, except for images and commands. */
  readonly value: string
}

export type FactKind =
  | 'instruction'
  | 'variable'
  | 'file'
  | 'image'
  | 'mount'
  | 'source'
  | 'document'
  | 'option'

export type PartialReason =
  | { readonly type: 'no operations'; readonly message: string }
  | { readonly type: 'other platform'; readonly wanted: string; readonly planned: string }
  | { readonly type: 'unknown folder'; readonly folder: string }
  | { readonly type: 'unreadable folder'; readonly folder: string; readonly message: string }
  | { readonly type: 'missing path'; readonly folder: string; readonly path: string }
  | { readonly type: 'folder as base'; readonly step: string }
  | { readonly type: 'remote source'; readonly source: string }
  | { readonly type: 'image not pinned'; readonly image: string }
  | { readonly type: 'nested build'; readonly step: string }

/** One line for people. */
export function describePartial(reason: PartialReason): string {
  switch (reason.type) {
    case 'no operations':
      return `the operations are not known: ${reason.message}`
    case 'other platform':
      return `the builder that was asked plans for ${reason.planned}, not for ${reason.wanted}`
    case 'unknown folder':
      return `what the context "${reason.folder}" holds is not known here`
    case 'unreadable folder':
      return `the context "${reason.folder}" cannot be read: ${reason.message}`
    case 'missing path':
      return `"${reason.path}" is not in the context "${reason.folder}"`
    case 'folder as base':
      return `"${reason.step}" stands on a folder itself, and BuildKit runs it in every build`
    case 'remote source':
      return `only the builder knows what ${reason.source} holds`
    case 'image not pinned':
      return `which image ${reason.image} is shows only when it is pulled`
    case 'nested build':
      return `"${reason.step}" makes operations that are known only when it runs`
  }
}
