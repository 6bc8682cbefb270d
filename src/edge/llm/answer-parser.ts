/** What is no answer by HTTP/1.1. */
export class AnswerError extends Error {
  constructor(why: string) {
    super(`no proper answer: ${why}`)
    this.name = 'AnswerError'
  }
}

export interface AnswerHandler {
  /** Of the final answer; raw headers, name and value in turn. */
  head(status: number, statusText: string, headers: readonly string[]): void
  /** A part of the body: of the buffer, valid during the call. */
  data(buffer: Buffer, from: number, to: number): void
  end(): void
}

/** `size` to `trailer`: chunked. `length`: so many bytes. `close`: up to the end of the connection. */
type State = 'head' | 'size' | 'chunk' | 'chunk-end' | 'trailer' | 'length' | 'close' | 'done'

const lf = 0x0a
const cr = 0x0d
const headBytesMost = 64 * 1024
const lineBytesMost = 4 * 1024
const chunkBytesMost = 2 ** 40

/**
 * Parses one answer (RFC 9112). Much less than what a general client does, and that without copies: the body of a token's event costs less than the
 * event's way through a stream of Node.
 */
export class AnswerParser {
  /** Another request may follow on the connection, once this answer is done. */
  reusable = false
  /** Seconds, as the server says; null: it says nothing. */
  keepAliveSeconds: number | null = null
  private readonly handler: AnswerHandler
  private state: State = 'head'
  private partial = Buffer.alloc(0)
  private left = 0
  private digits = 0
  private lineBytes = 0
  private inExtension = false

  constructor(handler: AnswerHandler) {
    this.handler = handler
  }

  get done(): boolean {
    return this.state === 'done'
  }

  /** The first bytes of the buffer. Throws AnswerError. */
  push(bytes: Buffer, length = bytes.length): void {
    let at = 0
    while (at < length) {
      switch (this.state) {
        case 'head':
          at = this.readHead(bytes.subarray(0, length), at)
          break
        case 'size':
          at = this.readSize(bytes, at, length)
          break
        case 'chunk':
        case 'length': {
          const end = Math.min(length, at + this.left)
          this.left -= end - at
          this.handler.data(bytes, at, end)
          at = end
          if (this.left > 0) break
          if (this.state === 'length') this.finish()
          else this.state = 'chunk-end'
          break
        }
        case 'chunk-end':
          if (bytes[at] === lf) this.state = 'size'
          else if (bytes[at] !== cr) throw new AnswerError('a chunk is longer than it says')
          at++
          break
        case 'trailer':
          at = this.readTrailer(bytes, at, length)
          break
        case 'close':
          this.handler.data(bytes, at, length)
          return
        case 'done':
          // Nobody has asked for more.
          this.reusable = false
          return
      }
    }
  }

  /** The connection has ended well. Returns false when the answer is cut. */
  ended(): boolean {
    if (this.state === 'close') this.finish()
    return this.state === 'done'
  }

  private finish(): void {
    this.state = 'done'
    this.handler.end()
  }

  private readHead(bytes: Buffer, from: number): number {
    const had = this.partial.length
    const all = had === 0 ? bytes.subarray(from) : Buffer.concat([this.partial, bytes.subarray(from)])
    const end = all.indexOf('\r\n\r\n')
    if (end === -1) {
      if (all.length > headBytesMost) throw new AnswerError('its head is too large')
      this.partial = Buffer.from(all)
      return bytes.length
    }
    this.partial = Buffer.alloc(0)
    this.parseHead(all.toString('latin1', 0, end))
    return from + end + 4 - had
  }

  private parseHead(text: string): void {
    const [statusLine, ...lines] = text.split('\r\n')
    const match = /^HTTP\/1\.([01]) (\d{3})(?: ([\s\S]*))?$/.exec(statusLine!)
    if (match === null) throw new AnswerError('it does not begin with HTTP/1.1')
    const status = Number(match[2])
    // Informational: the answer is still to come.
    if (status < 200) {
      if (status === 101) throw new AnswerError('nobody asked for an upgrade')
      return
    }
    const headers: string[] = []
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon)
      const value = line.slice(colon + 1).trim()
      if (
        colon < 1 ||
        !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name) ||
        !/^[\t\x20-\x7e\x80-\xff]*$/.test(value)
      )
        throw new AnswerError('one of its headers is none')
      headers.push(name, value)
    }
    this.frame(status, match[1] === '1', headers)
    const statusText = match[3] ?? ''
    // As any client may be told it.
    this.handler.head(status, /^[\t\x20-\x7e\x80-\xff]*$/.test(statusText) ? statusText : '', headers)
    if (this.state === 'length' && this.left === 0) this.finish()
  }

  /** RFC 9112 §6.3. */
  private frame(status: number, isNew: boolean, headers: readonly string[]): void {
    const coding = valuesOf(headers, 'transfer-encoding')
    const lengths = new Set(valuesOf(headers, 'content-length'))
    const [length] = lengths
    if (lengths.size > 1 || (length !== undefined && !/^\d{1,15}$/.test(length)))
      throw new AnswerError('its length is none')
    const isChunked = coding.length > 0 && /(^|[, ])chunked$/i.test(coding.at(-1)!)
    const connection = valuesOf(headers, 'connection').join(',').toLowerCase()
    this.reusable = isNew ? !/\bclose\b/.test(connection) : /\bkeep-alive\b/.test(connection)
    // Both at once are what smugglers send.
    if (coding.length > 0 && length !== undefined) this.reusable = false
    const timeout = /\btimeout=(\d{1,6})\b/i.exec(valuesOf(headers, 'keep-alive').join(','))
    this.keepAliveSeconds = timeout === null ? null : Number(timeout[1])
    this.left = 0
    if (status === 204 || status === 304) this.state = 'length'
    else if (isChunked) this.state = 'size'
    else if (length !== undefined && coding.length === 0) {
      this.state = 'length'
      this.left = Number(length)
    } else {
      this.state = 'close'
      this.reusable = false
    }
  }

  private readSize(bytes: Buffer, from: number, to: number): number {
    for (let at = from; at < to; at++) {
      const byte = bytes[at]!
      if (byte === lf) {
        if (this.digits === 0) throw new AnswerError('a chunk has no size')
        this.state = this.left === 0 ? 'trailer' : 'chunk'
        this.digits = 0
        this.lineBytes = 0
        this.inExtension = false
        return at + 1
      }
      if (++this.lineBytes > lineBytesMost) throw new AnswerError('the size of a chunk is too long')
      if (this.inExtension) continue
      const digit = digitOf(byte)
      if (digit === -1) {
        // ; begins an extension, white space may be before it, and CR is the first half of the line's end.
        if (byte !== 0x3b && byte !== cr && byte !== 0x20 && byte !== 0x09)
          throw new AnswerError('the size of a chunk is none')
        this.inExtension = true
        continue
      }
      this.digits++
      this.left = this.left * 16 + digit
      if (this.left > chunkBytesMost) throw new AnswerError('a chunk is too large')
    }
    return to
  }

  /** Trailers are not passed on. */
  private readTrailer(bytes: Buffer, from: number, to: number): number {
    for (let at = from; at < to; at++) {
      const byte = bytes[at]!
      if (byte === lf) {
        if (this.lineBytes === 0) {
          this.finish()
          return at + 1
        }
        this.lineBytes = 0
      } else if (byte !== cr && ++this.lineBytes > lineBytesMost)
        throw new AnswerError('a trailer is too long')
    }
    return to
  }
}

function digitOf(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function valuesOf(headers: readonly string[], name: string): string[] {
  const values: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (headers[i]!.toLowerCase() === name) values.push(headers[i + 1]!)
  return values
}
