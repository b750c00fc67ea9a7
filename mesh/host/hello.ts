/**
 * The hello: both sides show the membership that the coordinator signed for them. The only protocol that a
 * stranger may open. One message each way, so that whoever dialled knows it is in when the answer comes
 * (a dial that the other side refuses looks open to the dialler).
 */
import type { Connection } from '@libp2p/interface'
import { HearthError } from '../../core/errors.ts'
import { membershipBytesMax } from '../limits.ts'
import type { Membership, SignedMembership } from '../membership/index.ts'
import { type Admission, requireValid } from './admission.ts'
import { type FramedStream, frameStream } from './framed-stream.ts'

export const helloProtocol = '/hearth/hello/1'

export interface HelloDeps {
  admission: Admission
  own: () => SignedMembership
}

/** The side that dialled, or that has a renewed membership to show. @throws HearthError `forbidden`, … */
export async function sayHello(
  { admission, own }: HelloDeps,
  connection: Connection,
  options: { signal: AbortSignal },
): Promise<Membership> {
  const stream = await connection.newStream(helloProtocol, options)
  const framed = frameStream(stream, { frameBytesMax: membershipBytesMax })
  await framed.write(own(), options)
  const answer = await framed.read(options)
  await framed.close()
  return admit(admission, answer, connection)
}

/** The other side. @throws HearthError `forbidden`, … */
export async function answerHello(
  { admission, own }: HelloDeps,
  stream: FramedStream,
  connection: Connection,
  options: { signal: AbortSignal; admitted: () => void },
): Promise<void> {
  admit(admission, await stream.read(options), connection)
  // Before the answer goes out: whoever has it may open streams, and we theirs.
  options.admitted()
  await stream.write(own(), options)
  await stream.close()
}

function admit(
  admission: Admission,
  shown: Uint8Array | undefined,
  connection: Connection,
): Membership {
  const peerId = connection.remotePeer.toString()
  if (shown === undefined) {
    throw new HearthError('forbidden', `the peer ${peerId} showed no membership`)
  }
  return requireValid(admission.admit(shown, peerId), `the peer ${peerId}`)
}
