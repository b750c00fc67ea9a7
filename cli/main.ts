/** The program `hearth`. */
import { enableCompileCache } from 'node:module'
import path from 'node:path'
import { cacheFolder } from './folders.ts'
import type { Terminal } from './terminal.ts'

// Compiled code of the last run: halves the time until the first line of a verb runs.
enableCompileCache(
  process.env.NODE_COMPILE_CACHE ?? path.join(cacheFolder(process.env), 'compiled'),
)

const terminal: Terminal = {
  env: process.env,
  folder: process.cwd(),
  print: (text) => process.stdout.write(text),
  note: (line) => process.stderr.write(`${line}\n`),
}

// Whoever reads our output may stop reading ("hearth builds | head"): that is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

const { runCommandLine } = await import('./command-line.ts')
process.exitCode = await runCommandLine(process.argv.slice(2), terminal)
