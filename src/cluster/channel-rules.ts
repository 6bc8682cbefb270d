import { EvenkeelError } from '../protocol/errors.ts'
import { channelNameBytes } from '../protocol/names.ts'

/** Throws BAD_REQUEST unless the name has 1 to 255 bytes of UTF-8. */
export function assertChannelName(channel: string): void {
  const bytes = Buffer.byteLength(channel)
  if (bytes >= 1 && bytes <= channelNameBytes) return
  throw new EvenkeelError('BAD_REQUEST', `a channel name has 1 to ${channelNameBytes} bytes, not ${bytes}`)
}

/** Throws TOO_LARGE. */
export function assertMessageSize(payload: Buffer, messageBytes: number): void {
  if (payload.length <= messageBytes) return
  throw new EvenkeelError('TOO_LARGE', `the message has ${payload.length} bytes, allowed are ${messageBytes}`)
}

export function channelTaken(channel: string): EvenkeelError {
  return new EvenkeelError('CONFLICT', `channel ${channel} has a handler already`)
}

export function busClosed(): EvenkeelError {
  return new EvenkeelError('NOT_READY', 'the bus is closed')
}
