/**
 * Reads the Test Anything Protocol as ava writes it (https://testanything.org/tap-version-13-specification.html)
 * and turns it into lines for people, keeping count of what really ran.
 */

export interface Totals {
  passed: number
  failed: number
  skipped: number
}

export interface TapReader {
  /** @returns what to show for this line, or undefined. */
  line(text: string): string | undefined
  totals(): Totals
  /** Titles of what failed, in order. */
  failures(): readonly string[]
  /** False when the run broke off before its closing plan. */
  complete(): boolean
}

const resultPattern = /^(not ok|ok) \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/

export function createTapReader(): TapReader {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 }
  const failures: string[] = []
  let finished = false

  return {
    line(text) {
      const result = resultPattern.exec(text)
      if (result !== null) {
        const [, verdict, title = '', directive] = result
        if (directive !== undefined) {
          totals.skipped += 1
          return `- ${title} (${directive.toLowerCase()})`
        }
        if (verdict === 'ok') {
          totals.passed += 1
          return `✔ ${title}`
        }
        totals.failed += 1
        failures.push(title)
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
      return text.trim() === '' ? undefined : text.replace(/^# /, '  ')
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
