/**
 * The cli: what people type. Only this room prints.
 *
 * Promises: what a verb answers goes to standard output, everything said on the way to standard error; with
 * `--json` the answer is exactly one JSON document. An error is one line and a hint. A verb costs no more
 * start-up time than the modules it needs.
 */

/** What surrounds a verb. Handed in, so that a verb can be run without a process of its own. */
export interface Terminal {
  readonly env: NodeJS.ProcessEnv
  /** The folder that relative paths are relative to. */
  readonly folder: string
  /** Writes to standard output, as is. */
  print(text: string): void
  /** Writes one line to standard error. */
  note(line: string): void
}

/** What a file in cli/commands exports: one verb. */
export interface Verb {
  /**
   * @param args what follows the verb's name.
   * @returns the exit code (exit-codes.ts).
   * @throws HearthError
   */
  run(args: readonly string[], terminal: Terminal): Promise<number>
}

/** The answer of a verb: as one JSON document, or as lines for people. */
export function answer(
  terminal: Terminal,
  options: { json: boolean },
  document: unknown,
  lines: readonly string[],
): void {
  const text = options.json ? JSON.stringify(document, undefined, 2) : lines.join('\n')
  if (text !== '') terminal.print(`${text}\n`)
}
