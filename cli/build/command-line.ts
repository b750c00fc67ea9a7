/**
 * Reads the command line of `hearth build` and `hearth bake` without changing it: takes Hearth's own flags
 * out, looks at a few of buildx's, and leaves every other byte to buildx.
 */
import { HearthError } from '../../core/errors.ts'
import { type BuildxVerb, knownFlags, longName, takesValue } from './buildx-flags.ts'

export interface BuildCommandLine {
  readonly verb: BuildxVerb
  readonly own: { readonly project?: string; readonly data?: string }
  readonly json: boolean
  /** Everything else, in order and unchanged. */
  readonly passed: readonly string[]
  /** The same, told apart. A flag that came without a value has none. */
  readonly flags: readonly PassedFlag[]
  /** The context of a build; the targets of a bake. */
  readonly operands: readonly string[]
}

export interface PassedFlag {
  /** Long name without dashes. */
  readonly name: string
  readonly value: string | undefined
  /** False: buildx may know it, Hearth does not. */
  readonly known: boolean
}

const ownFlags = ['project', 'data']

/** @throws HearthError `invalid-input` for what Hearth itself must refuse. */
export function readCommandLine(verb: BuildxVerb, args: readonly string[]): BuildCommandLine {
  const own: { project?: string; data?: string } = {}
  const passed: string[] = []
  const flags: PassedFlag[] = []
  const operands: string[] = []
  let json = false
  let index = 0

  /** The value after the flag at `index`; moves past it. */
  const nextValue = (flag: string): string => {
    index += 1
    const value = args[index]
    if (value !== undefined) return value
    throw new HearthError('invalid-input', `${verb}: ${flag} needs a value`)
  }

  for (; index < args.length; index += 1) {
    const argument = args[index] ?? ''
    const start = index
    if (argument === '--') {
      operands.push(...args.slice(index + 1))
      passed.push(...args.slice(index))
      break
    }
    if (argument === '-' || !argument.startsWith('-')) {
      operands.push(argument)
    } else if (argument.startsWith('--')) {
      const equals = argument.indexOf('=')
      const name = argument.slice(2, equals === -1 ? undefined : equals)
      const attached = equals === -1 ? undefined : argument.slice(equals + 1)
      if (name === 'json') {
        json = attached !== 'false'
        continue
      }
      if (ownFlags.includes(name)) {
        const value = attached ?? nextValue(argument)
        if (value === '') {
          throw new HearthError('invalid-input', `${verb}: --${name} needs a value`)
        }
        own[name as 'project' | 'data'] = value
        continue
      }
      refuseBuilder(verb, name)
      const valued = takesValue(verb, name)
      const value = attached ?? (valued === true ? nextValue(argument) : undefined)
      flags.push({ name, value, known: valued !== undefined })
    } else {
      // One or more letters; the first that takes a value takes the rest, or the next argument.
      for (let at = 1; at < argument.length; at += 1) {
        const letter = argument[at] ?? ''
        const name = longName(verb, letter)
        if (name === undefined || takesValue(verb, name) !== true) {
          flags.push({ name: name ?? letter, value: undefined, known: name !== undefined })
          continue
        }
        const rest = argument.slice(at + 1).replace(/^=/, '')
        const value = at + 1 < argument.length ? rest : nextValue(`-${letter}`)
        flags.push({ name, value, known: true })
        break
      }
    }
    passed.push(...args.slice(start, index + 1))
  }
  return { verb, own, json, passed, flags, operands }
}

/** Values of a flag, in order. */
export function valuesOf(line: BuildCommandLine, name: string): string[] {
  return line.flags.flatMap((flag) =>
    flag.name === name && flag.value !== undefined ? [flag.value] : [],
  )
}

/** Whether a switch is on, the last mention deciding. */
export function isOn(line: BuildCommandLine, name: string): boolean {
  const last = line.flags.findLast((flag) => flag.name === name)
  return last !== undefined && last.value !== 'false'
}

/** Flags that Hearth does not know, with the nearest of those it does. */
export function unknownFlags(line: BuildCommandLine): string[] {
  return line.flags.filter((flag) => !flag.known).map((flag) => flag.name)
}

/** What somebody may have meant by a flag. */
export function allFlags(verb: BuildxVerb): string[] {
  return [...knownFlags(verb), ...ownFlags, 'json']
}

function refuseBuilder(verb: BuildxVerb, name: string): void {
  if (name !== 'builder') return
  throw new HearthError('invalid-input', `${verb} chooses the builder itself`, {
    hint: `leave --builder out, or use "docker buildx ${verb}" with it`,
  })
}
