/** A table of one kind of record over one LMDB database. */
import type { Database, Key } from 'lmdb'
import type { z } from 'zod'
import { HearthError } from '../../core/errors.ts'
import type { Table } from './index.ts'

export function createTable<Record>(
  database: Database<unknown, string>,
  name: string,
  shape: z.ZodType<Record>,
): Table<Record> {
  const read = recordReader(name, shape)
  return {
    get(id) {
      const value = database.get(id)
      return value === undefined ? undefined : read(id, value)
    },
    put(id, record) {
      database.putSync(id, record)
    },
    remove(id) {
      database.removeSync(id)
    },
    list: () => [...database.getRange()].map(({ key, value }) => read(key, value)),
  }
}

/** @throws HearthError `corrupt` (from the function returned) when what was found has another shape. */
export function recordReader<Record>(
  name: string,
  shape: z.ZodType<Record>,
): (key: Key, value: unknown) => Record {
  return (key, value) => {
    const parsed = shape.safeParse(value)
    if (parsed.success) return parsed.data
    throw new HearthError(
      'corrupt',
      `the coordinator's table "${name}" has an unreadable entry "${String(key)}"`,
      { hint: 'restore the data folder from a copy', cause: parsed.error },
    )
  }
}
