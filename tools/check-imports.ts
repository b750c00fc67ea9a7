/**
 * Checks the direction of every import of the repository against import-rules.ts. Specifiers come from the
 * compiler's own parser, so type imports, re-exports and dynamic imports count, comments and strings do not.
 * Prints `file:line: …` for each import that is refused, and exits 1 if there is one.
 */
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { API } from 'typescript/unstable/sync'
import { judgeImport } from './import-rules.ts'

export interface RefusedImport {
  /** Relative to the root of the repository. */
  file: string
  /** From 1. */
  line: number
  specifier: string
  reason: string
}

/** @param root folder with a tsconfig.json whose files are checked. */
export function checkImports(root: string): { files: number; refused: RefusedImport[] } {
  const api = new API({ cwd: root })
  try {
    const configuration = path.join(root, 'tsconfig.json')
    const snapshot = api.updateSnapshot({ openProjects: [configuration] })
    const project = snapshot.getProject(configuration)
    if (project === undefined) throw new Error(`the compiler cannot open ${configuration}`)
    const refused: RefusedImport[] = []
    for (const file of project.rootFiles) {
      const source = project.program.getSourceFile(file)
      for (const node of source?.imports ?? []) {
        const specifier = 'text' in node ? String(node.text) : ''
        if (source === undefined || !specifier.startsWith('.')) continue
        const from = path.relative(root, file)
        const to = path.relative(root, path.resolve(path.dirname(file), specifier))
        const verdict = judgeImport(from, to)
        if (verdict.type === 'allowed') continue
        const line = source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1
        refused.push({ file: from, line, specifier, reason: verdict.reason })
      }
    }
    return { files: project.rootFiles.length, refused }
  } finally {
    api.close()
  }
}

if (import.meta.main) {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
  const { files, refused } = checkImports(root)
  for (const { file, line, specifier, reason } of refused) {
    process.stderr.write(`${file}:${line}: ${reason} ("${specifier}")\n`)
  }
  if (refused.length > 0) {
    process.stderr.write(
      `${refused.length} imports point the wrong way: see tools/import-rules.ts\n`,
    )
    process.exitCode = 1
  } else {
    process.stderr.write(`imports of ${files} files point down\n`)
  }
}
