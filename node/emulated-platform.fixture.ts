/** A process that prints which platform it may build, or why not. */
import os from 'node:os'
import { toHearthError } from '../core/errors.ts'
import { choosePlatform } from './emulated-platform.ts'

try {
  process.stdout.write(
    JSON.stringify({ chosen: await choosePlatform(process.argv[2], os.tmpdir()) }),
  )
} catch (error) {
  const { code, hint } = toHearthError(error)
  process.stdout.write(JSON.stringify({ code, hint }))
}
