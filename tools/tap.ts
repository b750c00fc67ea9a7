/**
 * Reads the Test Anything Protocol as ava writes it (https://testanything.org/tap-version-13-specification.html)
 * and turns it into lines for people, keeping count of what really ran.
 */

export interface Totals {
  passed: number
  failed: number
  skipped: number
}

export interface TestFailure {
  title: string
  /** The first lines of what was said about it. */
  details: readonly string[]
}

export interface TapReader {
  /** @returns what to show for this line, or undefined. */
  line(text: string): string | undefined
  totals(): Totals
  /** What failed, in order. */
  failures(): readonly TestFailure[]
  /** False when the run broke off before its closing plan. */
  complete(): boolean
}

/** Enough for a failed comparison with its place; what a whole build printed is further up. */
const detailLinesMax = 30

const resultPattern = /^(not ok|ok) \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/

export function createTapReader(): TapReader {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 }
  const failures: { title: string; details: string[] }[] = []
  /** Takes the diagnostics of the result that was read last. */
  let details: string[] = []
  let finished = false

  return {
    line(text) {
      const result = resultPattern.exec(text)
      if (result !== null) {
        const [, verdict, title = '', directive] = result
        details = []
        if (directive !== undefined) {
          totals.skipped += 1
          return `- ${title} (${directive.toLowerCase()})`
        }
        if (verdict === 'ok') {
          totals.passed += 1
          return `✔ ${title}`
        }
        totals.failed += 1
        failures.push({ title, details })
        return `✘ ${title}`
      }
      if (/^1\.\.\d+/.test(text)) {
        finished = true
        return undefined
      }
      // The version line, the marks around diagnostics and the closing counts say nothing to a person.
      if (
        /^(TAP version |---$| {2}---$| {2}\.\.\.$|# (tests|pass|fail|skip|todo) \d+$)/.test(text)
      ) {
        return undefined
      }
      if (text.trim() === '') return undefined
      const shown = text.replace(/^# /, '  ')
      if (details.length < detailLinesMax) details.push(shown)
      return shown
    },
    totals: () => ({ ...totals }),
    failures: () => failures,
    complete: () => finished,
  }
}

/** The closing line: `12 passed, 0 failed`, with `, 1 skipped` when some were. */
export function describeTotals(totals: Totals): string {
  const skipped = totals.skipped === 0 ? '' : `, ${totals.skipped} skipped`
  return `${totals.passed} passed, ${totals.failed} failed${skipped}`
}
