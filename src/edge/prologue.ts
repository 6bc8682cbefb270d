import type { Socket } from 'node:net'

interface Parsed {
  readonly state: 'more' | 'invalid' | 'done'
}

/** Finds out what a connection begins with. The parser bounds how much it asks for. */
export interface PrologueReader<P extends Parsed> {
  readonly parse: (bytes: Uint8Array) => P
  /** How many bytes of it are not for whoever reads next. */
  readonly taken: (parsed: P & { readonly state: 'done' }) => number
  /** Milliseconds. */
  readonly withinMs: number
  /** Called in the turn in which the last byte was read; the rest is put back. */
  readonly done: (parsed: P & { readonly state: 'done' }) => void
  /** It began otherwise, ended, broke, or took too long. The socket is the caller's to end. */
  readonly failed: (reason: string) => void
}

/** Returns a function that gives up without a word. */
export function readPrologue<P extends Parsed>(socket: Socket, reader: PrologueReader<P>): () => void {
  let bytes: Buffer = Buffer.alloc(0)
  const timer = setTimeout(() => fail(`nothing complete within ${reader.withinMs} ms`), reader.withinMs)
  const ended = () => fail('the connection ended before')
  socket.on('readable', look)
  socket.on('end', ended)
  socket.on('error', ended)
  socket.on('close', ended)

  function look(): void {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      const parsed = reader.parse(bytes)
      if (parsed.state === 'more') continue
      if (parsed.state === 'invalid') {
        fail((parsed as { reason?: string }).reason ?? 'invalid')
        return
      }
      const done = parsed as P & { state: 'done' }
      stop()
      const rest = bytes.subarray(reader.taken(done))
      if (rest.length > 0) socket.unshift(rest)
      reader.done(done)
      return
    }
  }

  function fail(reason: string): void {
    stop()
    reader.failed(reason)
  }

  function stop(): void {
    clearTimeout(timer)
    socket.off('readable', look)
    for (const event of ['end', 'error', 'close']) socket.off(event, ended)
  }

  return stop
}
