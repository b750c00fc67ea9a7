/**
 * How Node is started for what runs for days. V8 lets the space for young objects grow to 128 MB within
 * some minutes of builds, and keeps it; a coordinator or node is as quick with a quarter of that.
 */
export const daemonNodeFlags: readonly string[] = ['--max-semi-space-size=16']
