/** Where the program before runc (daemon/runc-guard.ts) tells of steps: HTTP on a unix socket of one daemon. */
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import path from 'node:path'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { SteppingDaemon } from '../daemon/index.ts'

export interface StepEvents {
  /** The step waits for it. Resolves with whether anybody wants to hear of its end. */
  begin(id: string, bundle: string): Promise<boolean>
  kill(id: string): void
  end(id: string): void
}

const bodyBytesMax = 8_192
/** BuildKit's ids; nothing else becomes a file's name. */
const idPattern = /^[a-zA-Z0-9_-]{1,128}$/

/** @throws when the socket cannot be made. */
export async function serveSteps(
  { log }: { log: Logger },
  { socket, markers }: Pick<SteppingDaemon, 'socket' | 'markers'>,
  events: StepEvents,
): Promise<AsyncDisposable> {
  await mkdir(markers, { recursive: true, mode: 0o700 })
  await rm(socket, { force: true })

  async function answer(request: IncomingMessage): Promise<void> {
    const [, verb = '', id = ''] = request.url?.split('/') ?? []
    if (!idPattern.test(id)) return
    const marker = path.join(markers, id)
    switch (verb) {
      case 'begin': {
        const bundle = await bodyOf(request)
        // Before the wait: who kills a step that waits is heard.
        await writeFile(marker, '')
        if (!(await events.begin(id, bundle))) await rm(marker, { force: true })
        return
      }
      case 'kill':
        events.kill(id)
        return
      case 'end':
        await rm(marker, { force: true })
        events.end(id)
    }
  }

  const server = createServer((request, response) => {
    answer(request)
      .catch((error: unknown) => {
        log.warn({ reason: describeError(error) }, 'the cache mounts of a step are not looked at')
      })
      .finally(() => response.writeHead(204, { connection: 'close' }).end())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(socket, resolve)
  })
  await chmod(socket, 0o600)
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > bodyBytesMax) throw new Error('the folder of a bundle has a shorter name')
    parts.push(part)
  }
  return Buffer.concat(parts).toString()
}
