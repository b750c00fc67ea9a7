/** Listens to one peer, over the stream that it opened, and asks for what is lacking here. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { HearthError, toHearthError } from '../../core/errors.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { FramedStream } from '../host/index.ts'
import type { KnownFragment, SignedFragment } from './index.ts'
import { decodeMessage, encodeMessage } from './messages.ts'
import type { FragmentShelf } from './shelf.ts'

export interface ListenerDeps {
  shelf: FragmentShelf
  /** @throws HearthError `corrupt`, `forbidden`, `version` when it does not count. */
  open: (signed: SignedFragment) => KnownFragment
  /** Keeps what is news and passes it on. */
  take: (fragments: readonly KnownFragment[]) => Promise<void>
  /** The peer has said which scopes it knows of; what it knows more of `asked` is on its way. */
  summed: (asked: ReadonlySet<ScopeId>) => void
  /** What a peer said that does not count, and is no reason to stop listening to it. */
  refused: (reason: HearthError) => void
}

/**
 * Listens until the stream ends.
 * @throws HearthError what ended it; `corrupt`, `forbidden` when the peer said what nobody honest says.
 */
export async function listenToPeer(
  deps: ListenerDeps,
  stream: FramedStream,
  options: { signal: AbortSignal },
): Promise<void> {
  const { shelf } = deps
  const signal = AbortSignal.any([options.signal, stream.ended])
  const ask = (scope: ScopeId) =>
    stream.write(encodeMessage({ type: 'have', scope, ranks: shelf.ranks(scope) }), { signal })

  async function takeStatements(signed: readonly SignedFragment[]): Promise<void> {
    const opened: KnownFragment[] = []
    for (const each of signed) {
      const fragment = openOrRefuse(each)
      if (fragment !== undefined) opened.push(fragment)
      // Two signatures each: the event loop is others' too.
      await nextTurn()
    }
    if (opened.length > 0) await deps.take(opened)
  }

  function openOrRefuse(signed: SignedFragment): KnownFragment | undefined {
    try {
      return deps.open(signed)
    } catch (error) {
      const reason = toHearthError(error)
      // Whoever hands on what is malformed has not looked at it.
      if (reason.code === 'corrupt') throw reason
      deps.refused(reason)
      return undefined
    }
  }

  for (;;) {
    const frame = await stream.read({ signal })
    if (frame === undefined) return
    const message = decodeMessage(frame)
    switch (message.type) {
      case 'scopes': {
        const asked = new Set<ScopeId>()
        for (const [scope, fingerprint] of message.scopes) {
          if (shelf.fingerprint(scope) !== fingerprint) asked.add(scope)
        }
        deps.summed(asked)
        for (const scope of asked) await ask(scope)
        break
      }
      case 'offer': {
        const { scope, ranks } = message
        const lacks = [...ranks].some(([digest, rank]) => shelf.isNews(scope, digest, rank))
        if (lacks) await ask(scope)
        break
      }
      case 'statements':
        await takeStatements(message.signed)
        break
      default:
        throw new HearthError('corrupt', 'a peer that tells asks for something')
    }
  }
}
