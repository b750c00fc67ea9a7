/** A program that is asked, for tests. */
import { answerQuestions } from './programs.ts'

export interface SampleQuestion {
  type: 'who' | 'die' | 'never answered' | 'busy'
}

export interface SampleAnswer {
  pid: number
}

async function answer({ type }: SampleQuestion): Promise<SampleAnswer> {
  switch (type) {
    case 'who':
      return { pid: process.pid }
    case 'die':
      return process.exit(0)
    case 'never answered':
      setInterval(() => {}, 1_000)
      return await new Promise(() => {})
    case 'busy':
      for (;;) await new Promise((resolve) => setImmediate(resolve))
  }
}

answerQuestions(answer)
