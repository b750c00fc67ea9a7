/**
 * Tells one peer, over one stream, what it lacks. There is no long queue: when too much has come together for a slow
 * peer, it gets the summary of everything again and asks for what it lacks.
 */

import { HearthError } from '../../core/errors.ts'
import type { ScopeId } from '../../core/scope.ts'
import { createBell } from '../adverts/bell.ts'
import type { FramedStream } from '../host/index.ts'
import { fragmentQueueMax } from '../limits.ts'
import type { KnownFragment } from './index.ts'
import {
  decodeMessage,
  encodeMessage,
  type Message,
  scopesPerMessage,
  statementsPerMessage,
} from './messages.ts'
import type { FragmentShelf, Ranks } from './shelf.ts'

/** What there is to say to one peer. */
export interface Mailbox {
  tell(fragment: KnownFragment): void
  offer(scope: ScopeId, ranks: Ranks): void
}

interface Letters extends Mailbox {
  next(): Message | 'summary' | undefined
  wait(signal: AbortSignal): Promise<void>
}

/** A wait without end, as timers go. */
const longMs = 60 * 60_000

export function createMailbox(): Letters {
  const bell = createBell()
  let needsSummary = true
  let waiting: Message[] = []

  function add(message: Message): void {
    if (waiting.length < fragmentQueueMax) waiting.push(message)
    else {
      needsSummary = true
      waiting = []
    }
    bell.ring()
  }

  return {
    tell: ({ signed }) => add({ type: 'statements', signed: [signed] }),
    offer: (scope, ranks) => add({ type: 'offer', scope, ranks }),
    next() {
      if (needsSummary) {
        needsSummary = false
        return 'summary'
      }
      return waiting.shift()
    },
    wait: (signal) => bell.wait({ signal, limitMs: longMs }),
  }
}

/**
 * Tells until the stream ends.
 * @throws HearthError what ended it.
 */
export async function tellPeer(
  deps: { shelf: FragmentShelf; letters: Letters; working: () => void },
  stream: FramedStream,
  options: { signal: AbortSignal },
): Promise<void> {
  const { shelf, letters } = deps
  const signal = AbortSignal.any([options.signal, stream.ended])
  const say = (message: Message) => stream.write(encodeMessage(message), { signal })

  async function speak(): Promise<void> {
    for (;;) {
      const next = letters.next()
      // A ring between this and the wait is not missed: nothing else runs there.
      if (next === undefined) await letters.wait(signal)
      else if (next === 'summary') await summarize()
      else await say(next)
      signal.throwIfAborted()
    }
  }

  async function summarize(): Promise<void> {
    const scopes = shelf.scopes()
    for (let start = 0; start < scopes.length; start += scopesPerMessage) {
      const some = scopes.slice(start, start + scopesPerMessage)
      await say({
        type: 'scopes',
        scopes: new Map(some.map((scope) => [scope, shelf.fingerprint(scope)])),
      })
    }
    deps.working()
  }

  async function answer(): Promise<void> {
    for (;;) {
      const frame = await stream.read({ signal })
      if (frame === undefined) throw new HearthError('unavailable', 'the peer ended the stream')
      const message = decodeMessage(frame)
      if (message.type !== 'have') throw new HearthError('corrupt', 'the peer tells news here')
      const lacked = shelf.lackedBy(message.scope, message.ranks)
      for (let start = 0; start < lacked.length; start += statementsPerMessage) {
        const some = lacked.slice(start, start + statementsPerMessage)
        await say({ type: 'statements', signed: some.map(({ signed }) => signed) })
      }
    }
  }

  try {
    await Promise.all([speak(), answer()])
  } finally {
    stream.abort('the telling ended')
  }
}
