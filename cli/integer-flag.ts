/** Whole numbers typed as a flag's value. */
import { HearthError } from '../core/errors.ts'

/** @throws HearthError `invalid-input` */
export function readInteger(
  flag: string,
  text: string,
  range: { min: number; max: number },
): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (value >= range.min && value <= range.max) return value
  throw new HearthError('invalid-input', `${flag}: "${text}" is not a number Hearth can use`, {
    hint: `use a whole number from ${range.min} to ${range.max}`,
  })
}
