/** Finds places in JSON text that people wrote: only ever needed to explain a mistake in it. */
import { findNodeAtLocation, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser'

/** Line of a top-level key, from 1. */
export function lineOfKey(text: string, key: string): number | undefined {
  const tree = parseTree(text)
  const value = tree === undefined ? undefined : findNodeAtLocation(tree, [key])
  const offset = value?.parent?.offset
  return offset === undefined ? undefined : lineAt(text, offset)
}

/** The first thing in the text that is not JSON. */
export function firstMistake(text: string): { line: number; problem: string } {
  const errors: ParseError[] = []
  parseTree(text, errors, { disallowComments: true, allowTrailingComma: false })
  const first = errors[0]
  if (first === undefined) return { line: 1, problem: 'this is not JSON' }
  const code = printParseErrorCode(first.error)
  return { line: lineAt(text, first.offset), problem: problems[code] ?? 'this is not JSON' }
}

/** By the library's names of its error codes. */
const problems: Record<string, string> = {
  InvalidSymbol: 'this word is not JSON',
  InvalidNumberFormat: 'this is no number',
  PropertyNameExpected: 'a key in double quotes is missing (or a comma is too many)',
  ValueExpected: 'a value is missing',
  ColonExpected: 'a colon is missing after the key',
  CommaExpected: 'a comma is missing before this',
  CloseBraceExpected: 'a closing brace is missing',
  CloseBracketExpected: 'a closing bracket is missing',
  EndOfFileExpected: 'there is more after the end of the JSON',
  InvalidCommentToken: 'JSON has no comments',
  UnexpectedEndOfComment: 'JSON has no comments',
  UnexpectedEndOfString: 'a text is not closed with a double quote',
  UnexpectedEndOfNumber: 'this is no number',
  InvalidUnicode: 'this escape in a text is not JSON',
  InvalidEscapeCharacter: 'this escape in a text is not JSON',
  InvalidCharacter: 'this character is not allowed in a text',
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}
