/** What building from this machine needs. */
import { lookUpProgram } from '../../core/programs.ts'
import { BuildsService } from '../../proto/generated/hearth/v1/coordinator.ts'
import { findConnection } from '../connection.ts'
import { connectCoordinator } from '../coordinator-client.ts'
import { readLayers } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import type { Check, Finding } from './check.ts'
import { isAtLeast, versionOf } from './programs.ts'

const nodeMinimum = '24.0.0'
const buildxMinimum = '0.33.0'
const answerMs = 5000

export function clientChecks(terminal: Terminal, data: string | undefined): Check[] {
  return [
    { name: 'Node.js', needed: 'client', run: async () => checkNode() },
    { name: 'buildx', needed: 'client', run: ({ signal }) => checkBuildx(terminal, signal) },
    {
      name: 'coordinator',
      needed: 'client',
      run: ({ signal }) => checkCoordinator(terminal, data, signal),
    },
  ]
}

function checkNode(): Finding {
  const { node } = process.versions
  if (isAtLeast(node, nodeMinimum)) return { state: 'ok', found: node }
  return { state: 'problem', found: node, fix: 'install Node.js 24, or reinstall hearth-build' }
}

async function checkBuildx(terminal: Terminal, signal: AbortSignal): Promise<Finding> {
  const buildx = await lookUpProgram('buildx', terminal.env)
  if (buildx === undefined) {
    const fix = 'hearth doctor --fix builds it; or install Docker with its buildx plugin'
    return { state: 'problem', found: 'not on this machine', fix }
  }
  const version = await versionOf(buildx, ['version'], signal)
  if (version === undefined || !isAtLeast(version, '0.0.1')) {
    const fix = `should it misbehave: install buildx ${buildxMinimum} or newer`
    return { state: 'warning', found: `${buildx} does not say its version`, fix }
  }
  if (isAtLeast(version, buildxMinimum)) return { state: 'ok', found: `${version} (${buildx})` }
  const fix = `install buildx ${buildxMinimum} or newer, or run hearth doctor --fix`
  return { state: 'warning', found: `${version} is old (${buildx})`, fix }
}

async function checkCoordinator(
  terminal: Terminal,
  data: string | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  const connection = await findConnection(terminal, await readLayers(terminal, { data }))
  if (connection === undefined) {
    const fix = 'hearth up starts one here; hearth login remembers one elsewhere'
    return { state: 'warning', found: 'none is known', fix }
  }
  using client = connectCoordinator(connection)
  const startedAtMs = performance.now()
  await client.call(
    BuildsService.listBuilds,
    { project: '', limit: 1 },
    { signal, timeoutMs: answerMs },
  )
  const tookMs = Math.round(performance.now() - startedAtMs)
  return { state: 'ok', found: `${connection.address} answers (${tookMs} ms)` }
}
