/**
 * The content of build contexts: what the paths hold that a build's operations read from the client's folders.
 *
 * Promises: equal for equal content, whatever machine, folder, owner or time, and different where BuildKit
 * would see a difference (extended attributes excepted); never on the event loop; files that have not changed
 * since they were last read are not read again; an abort stops it at once.
 */
import type { Digest } from '../../core/digest.ts'
import type { Selector } from '../paths.ts'
import type { HashCount } from './entry-hash.ts'
import type { SourceFilter } from './visible-tree.ts'

export { createContentReader } from './content-reader.ts'
export type { HashCount } from './entry-hash.ts'
export type { SourceFilter } from './visible-tree.ts'

export interface ContentReader extends AsyncDisposable {
  /**
   * @throws HearthError `cancelled`. What cannot be read is an answer.
   */
  read(
    folders: readonly FolderQuestions[],
    options: { signal: AbortSignal },
  ): Promise<{ answers: ContentAnswer[]; count: HashCount }>
}

/** Questions about one folder as one local source shows it. */
export interface FolderQuestions {
  readonly folder: string
  readonly filter: SourceFilter
  readonly questions: readonly ContentQuestion[]
}

export interface ContentQuestion {
  readonly id: string
  readonly selectors: readonly Selector[]
}

export type ContentAnswer =
  | {
      readonly type: 'read'
      readonly id: string
      readonly digest: Digest
      /** Paths below the folder, and what each is: sorted, the first 2,000. */
      readonly files: readonly (readonly [string, string])[]
      readonly filesLeftOut: number
      /** Selected paths that are not there: the build will fail. */
      readonly missing: readonly string[]
    }
  | { readonly type: 'unreadable'; readonly id: string; readonly message: string }
