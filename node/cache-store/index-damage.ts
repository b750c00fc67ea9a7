/**
 * An index that no crash of ours can leave behind, only a broken disk or a stranger's hand: put aside, so
 * that the store starts empty rather than the node not at all. A cache may forget.
 */
import { rename } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from '../../core/log.ts'
import { isNoIndex } from './index-failure.ts'

export async function setAsideDamage(indexFolder: string, log: Logger): Promise<void> {
  if (!(await isNoIndex(path.join(indexFolder, 'data.mdb')))) return
  const aside = `${indexFolder}.damaged-${Date.now()}`
  await rename(indexFolder, aside)
  log.error({ aside }, 'the cache index was damaged and is put aside; the cache starts empty')
}
