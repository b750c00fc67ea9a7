/**
 * Images for builds with attestations: BuildKit's own Dockerfile frontend as a `# syntax=` image, and an SBOM
 * scanner that speaks the protocol of docs/attestations/sbom-protocol.md in moby/buildkit.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cacheFolder, madeOnce } from './cache-folder.ts'

const run = promisify(execFile)
const toolsModule = fileURLToPath(new URL('../../tools/', import.meta.url))

/** A context whose Dockerfile makes the frontend's image. */
export async function writeFrontendContext(folder: string): Promise<void> {
  await copyFile(await frontendProgram(), path.join(folder, 'frontend'))
  await writeFile(
    path.join(folder, 'Dockerfile'),
    'FROM scratch\nCOPY --chmod=755 frontend /bin/frontend\nENTRYPOINT ["/bin/frontend"]\n',
  )
}

/** Built from the same sources as the BuildKit of the tests. */
async function frontendProgram(): Promise<string> {
  const sums = await readFile(path.join(toolsModule, 'go.sum'))
  const key = createHash('sha256').update(sums).digest('hex').slice(0, 16)
  const folder = cacheFolder(`frontends/dockerfile-${key}`)
  await madeOnce(folder, async (temporary) => {
    const source = 'github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend'
    await run(
      'go',
      ['build', '-trimpath', '-ldflags', '-s -w', '-o', path.join(temporary, 'frontend'), source],
      { cwd: toolsModule, env: { ...process.env, CGO_ENABLED: '0' } },
    )
  })
  return path.join(folder, 'frontend')
}

/** A context whose Dockerfile makes the scanner's image. */
export async function writeScannerContext(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await copyFile('/bin/busybox', path.join(folder, 'busybox'))
  await writeFile(path.join(folder, 'scan'), scanner, { mode: 0o755 })
  await writeFile(
    path.join(folder, 'Dockerfile'),
    [
      'FROM scratch',
      'COPY busybox /bin/busybox',
      'RUN ["/bin/busybox", "--install", "/bin"]',
      'COPY scan /bin/scan',
      'ENTRYPOINT ["/bin/scan"]',
    ].join('\n'),
  )
}

/** One package per file below /app, with its sha256, for the result and for whatever else is to be scanned. */
const scanner = `#!/bin/sh
set -e
scan() {
  out="$BUILDKIT_SCAN_DESTINATION/$(basename "$1").spdx.json"
  packages=$(cd "$1" && find app -type f 2>/dev/null | sort | while read -r file; do
    printf '{"SPDXID":"SPDXRef-%s","name":"%s","comment":"%s"},' \\
      "$(echo "$file" | tr / -)" "$file" "$(sha256sum "$file" | cut -d' ' -f1)"
  done)
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"%s","packages":[%s]}}' \\
    "$(basename "$1")" "\${packages%,}" > "$out"
}
scan "$BUILDKIT_SCAN_SOURCE"
if [ -d "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
  for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do scan "$extra"; done
fi
`
