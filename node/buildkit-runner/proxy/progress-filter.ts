/**
 * Takes vertices of our own making out of the progress that the client sees: the line about importing the
 * scope's record, which would show a repository path that nobody should use.
 */
import { editFields, type Frame, fieldText, frameMessage } from '../../../proto/wire.ts'

/**
 * @param isOurs tells by a vertex's name.
 * @returns the frame to send on, or undefined when nothing is left of it. A frame that holds nothing of
 *   ours comes back byte for byte.
 */
export function createProgressFilter(
  isOurs: (vertexName: string) => boolean,
): (frame: Frame) => Buffer | undefined {
  const hidden = new Set<string>()
  return ({ message, compressed }) => {
    if (compressed) return framed(message, 1)
    let removed = false
    let kept = 0
    const edited = editFields(message, (field) => {
      if (field.bytes !== undefined && isHidden(field.number, field.bytes)) {
        removed = true
        return undefined
      }
      kept += 1
      return field.raw
    })
    if (!removed) return frameMessage(message)
    return kept === 0 ? undefined : frameMessage(edited)
  }

  /** StatusResponse: vertexes = 1 { digest = 1, name = 3 }, statuses = 2 { vertex = 2 }, logs = 3, warnings = 4 { vertex = 1 }. */
  function isHidden(number: number, bytes: Uint8Array): boolean {
    switch (number) {
      case 1:
        if (isOurs(fieldText(bytes, 3))) hidden.add(fieldText(bytes, 1))
        return hidden.has(fieldText(bytes, 1))
      case 2:
        return hidden.size > 0 && hidden.has(fieldText(bytes, 2))
      case 3:
      case 4:
        return hidden.size > 0 && hidden.has(fieldText(bytes, 1))
      default:
        return false
    }
  }
}

function framed(message: Buffer, flag: number): Buffer {
  const frame = frameMessage(message)
  frame.writeUInt8(flag, 0)
  return frame
}
