/**
 * Programs of a measurement in processes of their own, asked over their standard streams: a line of JSON each way.
 *
 * Promises: they end when whoever started them closes the line or dies, however that dies and whatever they are at.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export interface Program<Question, Answer> extends AsyncDisposable {
  /** One question at a time. @throws Error when the process ends instead of answering. */
  ask(question: Question): Promise<Answer>
}

/** For what a program closes when it is to end; its process ends by then, if not sooner. */
const endMs = 5_000

/** @param program file URL of a program that calls `answerQuestions`. */
export function startProgram<Question, Answer>(program: URL): Program<Question, Answer> {
  const child = spawn(process.execPath, [fileURLToPath(program)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  // A program that has ended is noticed by the answer that does not come.
  child.stdin.on('error', () => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async ask(question) {
      child.stdin.write(`${JSON.stringify(question)}\n`)
      const { value, done } = await lines.next()
      if (done === true) throw new Error(`${program.pathname} has ended`)
      return JSON.parse(String(value)) as Answer
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await endOf(child, ended)
    },
  }
}

/** A program that answers nothing and is only there, until it is disposed of. It calls `endWithStarter`. */
export function startCompanion(program: URL): AsyncDisposable {
  const child = spawn(process.execPath, [fileURLToPath(program)], {
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  const ended = once(child, 'exit')
  child.stdin.on('error', () => {})
  return {
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await endOf(child, ended)
    },
  }
}

async function endOf(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  const timer = setTimeout(() => child.kill('SIGKILL'), 2 * endMs)
  try {
    await ended
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The program's side.
 * @param end closes what should not be left half-way; an answer under way is not waited for.
 */
export function answerQuestions<Question, Answer>(
  answer: (question: Question) => Promise<Answer>,
  end: () => Promise<void> = async () => {},
): void {
  let turn: Promise<void> = Promise.resolve()
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    turn = turn.then(async () => {
      const answered = await answer(JSON.parse(line) as Question)
      process.stdout.write(`${JSON.stringify(answered)}\n`)
    })
    turn.catch((error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
      process.exit(1)
    })
  })
  // Nobody is left to read an answer, or to see an error.
  process.stdout.on('error', () => process.exit(1))
  lines.once('close', () => {
    Promise.race([end(), delay(endMs)])
      .catch(() => {})
      .finally(() => process.exit())
  })
}

/** The companion's side. */
export function endWithStarter(): void {
  process.stdin.on('error', () => process.exit(1))
  process.stdin.once('end', () => process.exit()).resume()
}
