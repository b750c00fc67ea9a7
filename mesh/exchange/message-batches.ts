/** Messages between threads in batches: waking the other one costs more than most messages, and many come together. */

export type Batch<Message> = readonly Message[]

/** @returns what sends; all that is sent in one turn of the event loop goes as one batch, in order. */
export function createBatches<Message>(
  post: (batch: Batch<Message>) => void,
): (message: Message) => void {
  let batch: Message[] = []
  const flush = (): void => {
    const full = batch
    batch = []
    post(full)
  }
  return (message) => {
    batch.push(message)
    if (batch.length === 1) setImmediate(flush)
  }
}
