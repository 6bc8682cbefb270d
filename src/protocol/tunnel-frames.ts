/** Frames of `evenkeel.v1` in the body of a request (PROTOCOL.md §2.3). Runs in browsers too. */
import { invalidFrame } from './client-frames.ts'
import { utf8 } from './utf8.ts'

const kinds = { text: 0, binary: 1, close: 2 } as const
const headBytes = 5

export type TunnelFrame =
  | { readonly kind: 'frame'; readonly text: boolean; readonly payload: Uint8Array }
  | { readonly kind: 'close'; readonly code: number; readonly reason: string }

/** Kind, u32 length, payload: pieces of the body. */
export function encodeTunnelFrame(frame: string | Uint8Array): Uint8Array<ArrayBuffer>[] {
  return typeof frame === 'string' ? framed(kinds.text, utf8(frame)) : framed(kinds.binary, frame)
}

/** The end of the connection: code, a space, reason. */
export function encodeTunnelClose(code: number, reason: string): Uint8Array<ArrayBuffer>[] {
  return framed(kinds.close, utf8(`${code} ${reason}`))
}

function framed(kind: number, payload: Uint8Array): Uint8Array<ArrayBuffer>[] {
  const head = new Uint8Array(headBytes)
  head[0] = kind
  new DataView(head.buffer).setUint32(1, payload.length, true)
  return [head, payload as Uint8Array<ArrayBuffer>]
}

/** Throws BAD_REQUEST before the first frame that is none. The payloads are parts of the body. */
export function* decodeTunnelFrames(body: Uint8Array): Generator<TunnelFrame> {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  for (let at = 0; at < body.length; ) {
    if (body.length - at < headBytes) throw invalidFrame('the body ends in the head of a frame')
    const kind = body[at]
    const start = at + headBytes
    const end = start + view.getUint32(at + 1, true)
    if (end > body.length) throw invalidFrame('the body ends in a frame')
    const payload = body.subarray(start, end)
    if (kind === kinds.text || kind === kinds.binary)
      yield { kind: 'frame', text: kind === kinds.text, payload }
    else if (kind === kinds.close) yield parseClose(new TextDecoder().decode(payload))
    else throw invalidFrame(`kind ${kind} is none of 0, 1 and 2`)
    at = end
  }
}

function parseClose(text: string): TunnelFrame {
  const [, code, reason] = /^(\d{4}) (.*)$/s.exec(text) ?? []
  if (code === undefined) throw invalidFrame('a close must say its code and reason')
  return { kind: 'close', code: Number(code), reason: reason! }
}
