/** What `hearth doctor` says of the object store that a node is to use. */
import test from 'ava'
import { makeHome, runHearth } from '../../cli/command-fixture.ts'
import { ownPlace, sharedS3 } from '../../node/cache-store/s3-tier/tier.fixture.ts'

const s3 = sharedS3(test)

test('the doctor tries the object store, and names the remedy where it refuses', async (t) => {
  const home = await makeHome(t)
  const { endpoint, accessKeyId, secretAccessKey } = s3()
  const cases: [string, NodeJS.ProcessEnv, RegExp][] = [
    ['a bucket that is there', {}, /^ok {4}object store +.* can be read and written/m],
    ['no such bucket', { HEARTH_S3: 's3://no-such-bucket' }, /fix: make the bucket/],
    ['wrong keys', { AWS_SECRET_ACCESS_KEY: 'wrong' }, /fix: set AWS_ACCESS_KEY_ID/],
    ['nobody there', { HEARTH_S3_ENDPOINT: 'http://127.0.0.1:9' }, /fix: check --s3-endpoint/],
  ]
  for (const [what, env, expected] of cases) {
    const { stdout } = await runHearth(t, home, ['doctor'], {
      env: {
        HEARTH_S3: ownPlace(s3()),
        HEARTH_S3_ENDPOINT: endpoint,
        AWS_ACCESS_KEY_ID: accessKeyId,
        AWS_SECRET_ACCESS_KEY: secretAccessKey,
        ...env,
      },
    })
    t.regex(stdout, expected, what)
  }
  const { stdout } = await runHearth(t, home, ['doctor'])
  t.regex(stdout, /^ok {4}object store +none is set/m)
})
