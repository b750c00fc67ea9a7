/** Cache mounts through real steps: what one BuildKit has gathered is there when the next one starts with nothing. */
import anyTest, { type TestFn } from 'ava'
import { type Builder, startBuilder } from '../proxy/builder.ts'
import { clientKinds, createContext } from '../proxy/context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

let turn = 0

/** Runs one step with the mount; its output is what it prints. */
async function runStep(
  { builder }: { builder: Builder },
  command: string,
  options: { mount?: string; noCache?: boolean } = {},
): Promise<string> {
  const { mount = 'target=/cache' } = options
  turn += 1
  await using context = await createContext(
    [
      `RUN --mount=type=cache,${mount} echo turn ${turn}; { ${command}; } 2>&1 | sed 's/^/out: /'`,
    ].join('\n'),
  )
  const result = await builder.through.buildx(clientKinds.buildx(context.path, options))
  if (result.exitCode !== 0) throw new Error(result.stderr)
  await builder.settled()
  await builder.mounts.idle()
  return [...result.stderr.matchAll(/^#\d+ [\d.]+ out: (.*)/gm)].map(([, line]) => line).join('\n')
}

const list = 'cd /cache && find . -exec stat -c "%n %a %u %g %Y %F %N" {} + | sort'

test.serial('a fresh BuildKit finds the mount as it was left', async (t) => {
  await runStep(
    t.context,
    [
      'cd /cache; mkdir -p a/b; echo one >a/b/one; chown 7:8 a/b/one; chmod 4751 a/b/one',
      'ln -s b/one a/link; ln a/b/one a/hard; ln -s /etc/passwd out; touch -d "2001-02-03 04:05:06" a/b/one a',
      'printf x >"trailing "; printf y >"$(printf "line\\\\nfeed")"; printf z >-dash; chmod 700 a/b; mkfifo pipe',
      'rm pipe',
    ].join('; '),
  )
  const before = await runStep(t.context, list)
  t.true(before.includes('./a/hard 4751 7 8'))
  await t.context.builder.forgetBuildkit()
  t.is(await runStep(t.context, list), before)
})

test.serial(
  'a step that ignores the cache gets an empty mount, and what it leaves is what counts',
  async (t) => {
    t.is(await runStep(t.context, 'ls -A /cache', { noCache: true }), '')
    await runStep(t.context, 'echo new >/cache/new')
    await t.context.builder.forgetBuildkit()
    t.is(await runStep(t.context, 'ls -A /cache'), 'new')
  },
)

test.serial('a mount that begins with another owner and mode travels', async (t) => {
  const mount = 'id=owned,target=/owned,uid=12,gid=34,mode=0750'
  await runStep(t.context, 'echo mine >/owned/file', { mount })
  await t.context.builder.forgetBuildkit()
  t.is(
    await runStep(t.context, 'cat /owned/file; stat -c "%a %u %g" /owned', { mount }),
    'mine\n750 12 34',
  )
  await runStep(t.context, 'echo more >/owned/more', { mount })
  await t.context.builder.forgetBuildkit()
  t.is(await runStep(t.context, 'cd /owned && cat file more', { mount }), 'mine\nmore')
})
