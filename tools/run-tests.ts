/**
 * Runs every test of the repository with ava, or those named on the command line, and closes with one plain
 * line of the real totals: `N passed, N failed`. Exits non-zero when a test failed or the run broke off.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createTapReader, describeTotals } from './tap.ts'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const startedAtMs = performance.now()
const print = (line: string) => process.stdout.write(`${line}\n`)

// In a group of its own, so that ending the run ends the daemons that tests have started, too.
const ava = spawn(path.join(root, 'node_modules/.bin/ava'), ['--tap', ...process.argv.slice(2)], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
  detached: true,
})
const ended = once(ava, 'close')
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    if (ava.pid !== undefined) process.kill(-ava.pid, signal)
  })
}

const reader = createTapReader()
for await (const line of createInterface({ input: ava.stdout })) {
  const shown = reader.line(line)
  if (shown !== undefined) print(shown)
}
const [exitCode, signal] = (await ended) as [number | null, string | null]

const totals = reader.totals()
if (reader.failures().length > 0) {
  print('\nfailed:')
  // Once more, with what was said: whoever reads only the end of a long log finds it here.
  for (const { title, details } of reader.failures()) {
    print(`  ✘ ${title}`)
    for (const line of details) print(`  ${line}`)
  }
}
if (totals.failed === 0 && (exitCode !== 0 || !reader.complete())) {
  // No test is to blame, yet the run is no success: it counts as one failure.
  print(`\nthe test run itself failed: ava ended with ${signal ?? exitCode}`)
  totals.failed += 1
}
if (totals.passed + totals.failed === 0) {
  print('\nno test ran')
  totals.failed += 1
}
print(`\nin ${((performance.now() - startedAtMs) / 1000).toFixed(0)} s:`)
print(describeTotals(totals))
process.exitCode = totals.failed === 0 ? 0 : 1
