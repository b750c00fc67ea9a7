#!/usr/bin/env node
'use strict'
/**
 * The installed command. Hearth needs Node 24; whoever installs it may run an older one, so this file is
 * plain CommonJS that any Node from 18 on can run. It finds a Node 24, the running one first, and starts
 * the program in it.
 */
const { spawn } = require('node:child_process')
const { closeSync, existsSync, openSync } = require('node:fs')
const { enableCompileCache } = require('node:module')
const os = require('node:os')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

const nodeMajor = 24
const root = path.join(__dirname, '..')

// A checkout runs its sources; a published package has none, because Node strips no types in node_modules.
const source = path.join(root, 'cli', 'main.ts')
const main = existsSync(source) ? source : path.join(root, 'dist', 'cli', 'main.js')

// Before the first import: compiled code of the last run halves the time until a verb runs, and a source whose
// types are stripped already needs no stripper.
const cache = process.env.XDG_CACHE_HOME || path.join(process.env.HOME || os.homedir(), '.cache')
const compiled = process.env.NODE_COMPILE_CACHE || path.join(cache, 'hearth', 'compiled')

if (Number(process.versions.node.split('.')[0]) >= nodeMajor) {
  enableCompileCache(compiled)
  void import(pathToFileURL(main).href)
} else {
  const node = findNode()
  if (node === undefined) {
    process.stderr.write(
      `hearth: this is Node ${process.versions.node}, and Hearth needs Node ${nodeMajor}\n` +
        `  install Node ${nodeMajor}, or reinstall hearth-build with its optional dependencies\n`,
    )
    process.exitCode = 3
  } else {
    run(node)
  }
}

/** The Node that came as a package with Hearth. */
function findNode() {
  try {
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`, {
      paths: [root],
    })
    const node = path.join(path.dirname(manifest), 'bin', 'node')
    return existsSync(node) ? node : undefined
  } catch {
    return undefined
  }
}

/** As if that Node had been started in our place: same streams, same signals, same end. */
function run(node) {
  // Room for all that a start allocates: without a collection in between it takes a tenth less time.
  const flags = ['--min-semi-space-size=16', '--max-semi-space-size=32']
  const child = spawn(node, [...flags, main, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, NODE_COMPILE_CACHE: compiled },
  })
  const forwards = ['SIGTERM', 'SIGHUP', 'SIGINT'].map((name) => {
    const forward = () => {
      // A terminal sends Ctrl-C to the child as well.
      if (name !== 'SIGINT' || !hasTerminal()) child.kill(name)
    }
    process.on(name, forward)
    return () => process.off(name, forward)
  })
  child.on('error', (error) => {
    process.stderr.write(`hearth: cannot start ${node}: ${error.message}\n`)
    process.exitCode = 3
  })
  child.on('exit', (code, signal) => {
    for (const stop of forwards) stop()
    if (signal === null) process.exitCode = code
    else if (os.constants.signals[signal] !== undefined) process.kill(process.pid, signal)
  })
}

function hasTerminal() {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}
