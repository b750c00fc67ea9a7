import test from 'ava'
import { HearthError } from '../../../core/errors.ts'
import type { Operation } from '../../../plan/operations.ts'
import { Cause } from '../../../proto/generated/hearth/v1/build.ts'
import { explainFailure, type FailureFacts } from './failure.ts'
import type { VertexProgress } from './step-watch.ts'

function operation(digest: string, line: number): Operation {
  return {
    vertexDigest: `sha256:${digest}`,
    operationDigest: `sha256:${digest}`,
    kind: 'run',
    name: `[${line}/9] RUN ${digest}`,
    isStep: true,
    platform: 'linux/amd64',
    source: { file: 'Dockerfile', firstLine: line, lastLine: line },
    ignoresCache: false,
    cacheMounts: [],
  }
}

function vertex(digest: string, change: Partial<VertexProgress> = {}): [string, VertexProgress] {
  const progress: VertexProgress = {
    digest: `sha256:${digest}`,
    name: digest,
    startedMs: 10_000,
    completedMs: undefined,
    cached: false,
    running: true,
    error: '',
    saidNoSpace: false,
    ...change,
  }
  return [progress.digest, progress]
}

function facts(change: Partial<FailureFacts>): FailureFacts {
  return {
    message: 'process "/bin/sh -c make" did not complete successfully: exit code: 1',
    isCancelled: false,
    details: { vertex: undefined, exitCode: undefined },
    clientPart: 'waited',
    daemonEnd: undefined,
    operations: [operation('a', 3), operation('b', 4)],
    vertices: new Map([vertex('a'), vertex('b')]),
    oomKills: [],
    diskFreeBytes: 1e12,
    ...change,
  }
}

const failed = (exitCode: number) => ({ vertex: 'sha256:b', exitCode })
const kill = { process: 'cc1plus', bytes: 1.9e9, isMachineWide: false }

test('a BuildKit that hung is told from one that died, with what was running', (t) => {
  const error = new HearthError('unavailable', 'BuildKit of app/main hung for 60 s', {
    hint: 'report it',
  })
  const hung = explainFailure(facts({ daemonEnd: { by: 'hung', error } }))
  t.is(hung.cause, Cause.CAUSE_BUILDKIT_HUNG)
  t.is(hung.text, 'BuildKit of app/main hung for 60 s during [3/9] RUN a (Dockerfile:3) and 1 more')
  t.is(hung.advice, 'report it')
  const plain = new HearthError('unavailable', 'BuildKit of app/main has ended: exit code 2')
  const wordy = new HearthError('unavailable', `${plain.message}; its last messages:\n  panic`, {
    cause: plain,
    hint: 'a path on the node',
  })
  const died = explainFailure(facts({ daemonEnd: { by: 'died', error: wordy } }))
  t.is(died.cause, Cause.CAUSE_BUILDKIT_DIED)
  t.regex(died.text, /^BuildKit of app\/main has ended: exit code 2 during \[3\/9\] RUN a/)
  t.notRegex(died.text + died.advice, /panic|a path/)
})

test('a node that stops is named, whichever end of it is seen first', (t) => {
  const stopped = { by: 'stopped', error: new HearthError('unavailable', 'stopped') } as const
  for (const change of [
    { clientPart: 'node stopping' },
    { daemonEnd: stopped },
    { daemonEnd: stopped, clientPart: 'lost' },
  ] as const) {
    t.is(explainFailure(facts(change)).cause, Cause.CAUSE_NODE_STOPPED)
  }
})

test('a client that goes while its BuildKit dies is what ended the build', (t) => {
  const daemonEnd = { by: 'died', error: new HearthError('unavailable', 'ended') } as const
  const lost = explainFailure(facts({ daemonEnd, clientPart: 'lost' }))
  t.is(lost.cause, Cause.CAUSE_CLIENT_LOST)
})

test('a kill for want of memory counts only while the step was running, and alone unless it shows', (t) => {
  const ended = { running: false, completedMs: 20_000 }
  const alone = new Map([vertex('b', ended)])
  const during = [{ ...kill, atMs: 15_000 }]
  const before = [{ ...kill, atMs: 5_000 }]
  const causeOf = (change: Partial<FailureFacts>) => explainFailure(facts(change)).cause
  const { CAUSE_OUT_OF_MEMORY, CAUSE_STEP_FAILED, CAUSE_STEP_KILLED } = Cause
  t.is(causeOf({ details: failed(137), oomKills: during }), CAUSE_OUT_OF_MEMORY)
  t.is(causeOf({ details: failed(2), vertices: alone, oomKills: during }), CAUSE_OUT_OF_MEMORY)
  t.is(causeOf({ details: failed(137), vertices: alone, oomKills: before }), CAUSE_STEP_KILLED)
  // Another step was running as well, and 2 does not look like a kill.
  t.is(causeOf({ details: failed(2), oomKills: during }), CAUSE_STEP_FAILED)
  // The step before it had ended just then, as steps do one after the other.
  const early = [{ ...kill, atMs: 10_100 }]
  const after = new Map([
    vertex('a', { ...ended, startedMs: 8_000, completedMs: 9_990 }),
    vertex('b', ended),
  ])
  t.is(causeOf({ details: failed(2), vertices: after, oomKills: early }), CAUSE_OUT_OF_MEMORY)
  const machine = [{ ...kill, atMs: 15_000, isMachineWide: true }]
  t.regex(
    explainFailure(facts({ details: failed(137), oomKills: machine })).text,
    /RUN b \(Dockerfile:4\) ran out of memory when the whole machine had none left: .*"cc1plus", which held 1900 MB/,
  )
})

test('where counters of control groups tell it, BuildKit says so itself', (t) => {
  const message = 'process "/bin/sh -c make" did not complete successfully: cannot allocate memory'
  const failure = explainFailure(facts({ message, details: failed(137) }))
  t.is(failure.cause, Cause.CAUSE_OUT_OF_MEMORY)
  t.regex(failure.text, /RUN b \(Dockerfile:4\) ran out of memory$/)
})

test('a full disk is the node’s, the step’s, or the client’s', (t) => {
  const vertices = new Map([vertex('b', { running: false, saidNoSpace: true })])
  const step = { details: failed(1), vertices }
  t.is(explainFailure(facts({ ...step, diskFreeBytes: 1e6 })).cause, Cause.CAUSE_NODE_DISK_FULL)
  t.is(explainFailure(facts({ ...step, diskFreeBytes: 1e12 })).cause, Cause.CAUSE_STEP_DISK_FULL)
  const message = 'failed to copy files: write /var/lib/x: no space left on device'
  t.is(explainFailure(facts({ message })).cause, Cause.CAUSE_NODE_DISK_FULL)
  const theirs = 'error from receiver: write /home/me/out: no space left on device'
  t.is(explainFailure(facts({ message: theirs })).cause, Cause.CAUSE_REFUSED)
})
