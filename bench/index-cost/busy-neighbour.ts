/** A process that keeps one core busy with what builds do to memory, until it is ended. */
import { createHash } from 'node:crypto'
import { endWithStarter } from '../programs.ts'

const bytes = Buffer.alloc(64 * 1024 * 1024, 7)
const work = () => {
  createHash('sha256').update(bytes).digest()
  Buffer.from(bytes)
  setImmediate(work)
}
endWithStarter()
work()
