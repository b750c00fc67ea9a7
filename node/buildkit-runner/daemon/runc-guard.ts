/**
 * Stands before runc and refuses a step that names a control group of its own, because the limits of its build
 * are on the daemon's. BuildKit's `defaultCgroupParent` is only a default: frontends that run inside BuildKit
 * can ask for any other group, and nobody else sees what they ask.
 */
import { writeFile } from 'node:fs/promises'

/**
 * Writes the program that BuildKit is to take for runc.
 * @param guarded.controlGroup as BuildKit's `defaultCgroupParent` names it.
 * @returns the file.
 */
export async function writeRuncGuard(
  file: string,
  guarded: { runc: string; controlGroup: string },
): Promise<string> {
  await writeFile(file, guardScript(guarded), { mode: 0o755 })
  return file
}

/**
 * What runc would run is in the bundle's config.json. In a string of JSON a quote has a backslash before it,
 * so nothing that a step says of itself can look like the key. A container's id is its group's last part
 * (executor/oci/spec.go in BuildKit v0.34.2), and has no dots.
 */
function guardScript({ runc, controlGroup }: { runc: string; controlGroup: string }): string {
  return `#!/bin/sh
bundle=
before=
for word; do
  case $before in --bundle | -b) bundle=$word ;; esac
  before=$word
done
if [ -n "$bundle" ] && ! grep -qE '"cgroupsPath":"/${controlGroup}/buildkit/[A-Za-z0-9]+"' "$bundle/config.json"; then
  echo 'a step may not choose its control group (cgroup-parent)' >&2
  exit 1
fi
exec '${runc}' "$@"
`
}
