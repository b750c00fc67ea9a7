/** The time as the scheduler sees it, so that tests need not wait for it. */
export interface Clock {
  /** Milliseconds since 1970. */
  nowMs(): number
  /** Calls once, later. Disposing it first cancels the call. */
  after(delayMs: number, call: () => void): Disposable
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(delayMs, call) {
    // No lease is a reason to keep a process alive.
    const timer = setTimeout(call, delayMs).unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}
