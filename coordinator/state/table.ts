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

/** Keeps in memory what was read: for a small table that is listed all the time. */
export interface RememberedTable<Record> extends Table<Record> {
  /** What was written has been undone. */
  forget(): void
}

/** @param table that nobody else writes to. */
export function rememberTable<Record>(table: Table<Record>): RememberedTable<Record> {
  let listed: Record[] | undefined
  const found = new Map<string, Record>()

  function forget(): void {
    listed = undefined
    found.clear()
  }

  return {
    get(id) {
      const known = found.get(id)
      if (known !== undefined) return known
      const read = table.get(id)
      if (read !== undefined) found.set(id, read)
      return read
    },
    put(id, record) {
      forget()
      table.put(id, record)
    },
    remove(id) {
      forget()
      table.remove(id)
    },
    list() {
      listed ??= table.list()
      return [...listed]
    },
    forget,
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
