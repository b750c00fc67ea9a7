/** Reads contexts in a thread of its own, which starts at once: before the questions are known. */
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { HearthError, toHearthError } from '../../core/errors.ts'
import type { ContentAnswer, ContentReader, FolderQuestions, HashCount } from './index.ts'
import type { FolderContents } from './read-content.ts'

/** @param options.cacheFolder where it is remembered what files hold. */
export function createContentReader(options: { cacheFolder: string }): ContentReader {
  let worker: Worker | undefined = start()
  let last: Promise<unknown> = Promise.resolve()

  function start(): Worker {
    const thread = new Worker(workerFile, { workerData: { cacheFolder: options.cacheFolder } })
    // Whoever waits for an answer hears of it; the next question starts another.
    thread.on('error', () => {})
    thread.on('exit', () => {
      if (worker === thread) worker = undefined
    })
    // An idle thread must not keep the process alive.
    thread.unref()
    return thread
  }

  function ask(questions: FolderQuestions, signal: AbortSignal): Promise<FolderContents> {
    const { promise, resolve, reject } = Promise.withResolvers<FolderContents>()
    if (signal.aborted) throw cancelled(signal)
    const thread = worker ?? start()
    worker = thread
    const abort = () => {
      // In the middle of a file there is no other way to stop it.
      worker = undefined
      reject(cancelled(signal))
      void thread.terminate()
    }
    const fail = (error: unknown) => reject(toHearthError(error, `read ${questions.folder}`))
    const end = () => fail(new Error('its thread ended'))
    signal.addEventListener('abort', abort, { once: true })
    thread.on('message', resolve)
    thread.on('error', fail)
    thread.on('exit', end)
    thread.ref()
    thread.postMessage(questions)
    return promise.finally(() => {
      signal.removeEventListener('abort', abort)
      thread.off('message', resolve)
      thread.off('error', fail)
      thread.off('exit', end)
      thread.unref()
    })
  }

  async function readAll(folders: readonly FolderQuestions[], signal: AbortSignal) {
    const answers: ContentAnswer[] = []
    const count: HashCount = { files: 0, filesRead: 0, bytesRead: 0 }
    for (const folder of folders) {
      const contents = await ask(folder, signal)
      answers.push(...contents.answers)
      count.files += contents.count.files
      count.filesRead += contents.count.filesRead
      count.bytesRead += contents.count.bytesRead
    }
    return { answers, count }
  }

  return {
    read(folders, { signal }) {
      // One after the other: the thread answers in order.
      const mine = last.then(() => readAll(folders, signal))
      last = mine.catch(() => {})
      return mine
    },
    async [Symbol.asyncDispose]() {
      await worker?.terminate()
    },
  }
}

// As .ts from source, as .js from the published package.
const workerFile = new URL(`./content-worker${path.extname(import.meta.url)}`, import.meta.url)

function cancelled(signal: AbortSignal): HearthError {
  return new HearthError('cancelled', 'reading the build context was cancelled', {
    cause: signal.reason,
  })
}
