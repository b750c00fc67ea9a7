/**
 * Stands before runc, for two things:
 *
 * - It refuses a step that names a control group of its own, because the limits of its build are on the daemon's.
 *   BuildKit's `defaultCgroupParent` is only a default: frontends that run inside BuildKit can ask for any other
 *   group, and nobody else sees what they ask.
 * - It tells the node of steps that have folders of BuildKit's state mounted, cache mounts above all: before such a
 *   step starts, which waits for the answer, and when it is killed or has ended. Trouble on this way is none of the
 *   step's: it runs as if nobody had been asked.
 *
 * Whatever runc is called for, it is then called for with the same arguments, in the same process.
 */
import { writeFile } from 'node:fs/promises'

export interface Guarded {
  readonly runc: string
  /** As BuildKit's `defaultCgroupParent` names it. */
  readonly controlGroup: string
  /** Whom to tell of steps with mounts. Default: nobody. */
  readonly steps?: StepNews | undefined
}

export interface StepNews {
  /** A unix socket that speaks HTTP: `POST /begin/ID` with the bundle's folder, `/kill/ID`, `/end/ID`. */
  readonly socket: string
  /** A folder with a file by a step's id, from `begin` to `end`: without one, nobody is told of its end. */
  readonly markers: string
  /** How long a step waits for the answer to `begin`. */
  readonly answerMs: number
}

/**
 * Writes the program that BuildKit is to take for runc.
 * @returns the file.
 */
export async function writeRuncGuard(file: string, guarded: Guarded): Promise<string> {
  await writeFile(file, guardScript(guarded), { mode: 0o755 })
  return file
}

/** Where BuildKit mounts folders of its state from (T, on v0.34.2): snapshots, and overlays over them. */
const stateMount =
  '"source":"[^"]*/(snapshots/[0-9]+/fs|buildkit-mount[0-9]+|cachemounts/[^"/]+)(/[^"]*)?"'

/** Nobody waits for the answer to these. */
const noteSeconds = 2

/**
 * What runc would run is in the bundle's config.json. In a string of JSON a quote has a backslash before it,
 * so nothing that a step says of itself can look like the keys. A container's id is its group's last part
 * (executor/oci/spec.go in BuildKit v0.34.2), and has no dots. One `grep` answers both questions: each program
 * that is started here costs every step a millisecond.
 */
function guardScript({ runc, controlGroup, steps }: Guarded): string {
  const group = `"cgroupsPath":"/${controlGroup}/buildkit/[A-Za-z0-9]+"`
  const tell = (verb: string, body: string, seconds: number): string =>
    steps === undefined
      ? ':'
      : `curl --disable --silent --noproxy '*' --max-time ${seconds} --unix-socket '${steps.socket}' \\
    --output /dev/null --data-binary ${body} "http://node/${verb}/$id" </dev/null >/dev/null 2>&1`
  return `#!/bin/sh
bundle=
before=
verb=
id=
for word; do
  case $before in
    --bundle | -b) bundle=$word ;;
    kill) id=$word ;;
  esac
  case $verb$word in run | kill | delete) verb=$word ;; esac
  before=$word
done
[ "$verb" = kill ] || id=$before
if [ -n "$bundle" ]; then
  found=$(grep -oE '${group}|${stateMount}' "$bundle/config.json")
  case $found in *'"cgroupsPath":'*) ;; *)
    echo 'a step may not choose its control group (cgroup-parent)' >&2
    exit 1
  esac
  case $found in *'"source":'*)
    ${tell('begin', '"$bundle"', Math.ceil((steps?.answerMs ?? 0) / 1000))}
  esac
elif [ -n "$id" ] && [ -e '${steps?.markers ?? '/nowhere'}'/"$id" ]; then
  case $verb in
    kill) ${tell('kill', "''", noteSeconds)} ;;
    delete) ${tell('end', "''", noteSeconds)} ;;
  esac
fi
exec '${runc}' "$@"
`
}
