/** Numbers as people read them. */

/** 0.04s, 1.2s, 3m 05s, 2h 07m. */
export function formatDuration(durationMs: number): string {
  const seconds = durationMs / 1000
  if (seconds < 0.1) return `${seconds.toFixed(2)}s`
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`
}

/** 0 B, 640 B, 12 kB, 3.4 MB, 1.2 GB: powers of 1000, as disks and registries are measured. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit < 2 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${units[unit]}`
}

/** "just now", "5 min ago", "3 h ago", "4 d ago". */
export function formatAge(moment: Date | undefined, now: Date): string {
  if (moment === undefined) return '-'
  const minutes = Math.floor((now.getTime() - moment.getTime()) / 60_000)
  if (minutes < 1) return 'just now'
  if (minutes < 60) return `${minutes} min ago`
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`
  return `${Math.floor(minutes / (24 * 60))} d ago`
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st. */
export function formatOrdinal(position: number): string {
  const lastTwo = position % 100
  const suffix =
    lastTwo >= 11 && lastTwo <= 13 ? 'th' : (['th', 'st', 'nd', 'rd'][position % 10] ?? 'th')
  return `${position}${suffix}`
}

function pad(value: number): string {
  return String(value).padStart(2, '0')
}
