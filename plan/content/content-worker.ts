/** The thread that reads build contexts: one folder of questions in, its answers out, in order. */
import { parentPort, workerData } from 'node:worker_threads'
import type { FolderQuestions } from './index.ts'
import { createFolderReader } from './read-content.ts'

const { cacheFolder } = workerData as { cacheFolder: string }
const readFolder = createFolderReader(cacheFolder)

parentPort?.on('message', (ask: FolderQuestions) => parentPort?.postMessage(readFolder(ask)))
