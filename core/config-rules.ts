/** Checks of configured values that are more than a plain text. */
import { z } from 'zod'
import type { Rule } from './config.ts'

export type RuleOutcome =
  | { type: 'accepted'; value: string | number }
  | { type: 'refused'; problem: string }

/** @param options.fromText the value was typed or exported, so a number arrives as text. */
export function checkRule(rule: Rule, value: unknown, options: { fromText: boolean }): RuleOutcome {
  const parsed = schemaOf(rule, options.fromText).safeParse(value)
  return parsed.success
    ? { type: 'accepted', value: parsed.data }
    : { type: 'refused', problem: expectations(rule) }
}

function schemaOf(rule: Rule, fromText: boolean): z.ZodType<string | number> {
  switch (rule.type) {
    case 'text':
      return z.string().min(1)
    case 'integer': {
      const integer = z.int().min(rule.min).max(rule.max)
      return fromText
        ? z
            .stringFormat('integer', /^\d{1,15}$/)
            .transform(Number)
            .pipe(integer)
        : integer
    }
    case 'choice':
      return z.enum(rule.choices)
  }
}

function expectations(rule: Rule): string {
  switch (rule.type) {
    case 'text':
      return 'is not a text'
    case 'integer':
      return `is not a whole number from ${rule.min} to ${rule.max}`
    case 'choice':
      return `is not one of ${rule.choices.join(', ')}`
  }
}
