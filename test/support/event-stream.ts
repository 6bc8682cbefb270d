export interface StreamEvent {
  type: string
  data: string
  lastEventId: string
}

/** The algorithm of WHATWG HTML §9.2.6, step by step, and nothing from the encoder. Takes a stream in any pieces. */
export class EventStreamParser {
  /** What a client would send as `Last-Event-ID`. */
  lastEventId = ''
  retryMs: number | null = null
  private buffered = ''
  private isFirst = true
  private idBuffer = ''
  private data = ''
  private type = ''

  push(text: string): StreamEvent[] {
    this.buffered += this.isFirst ? text.replace(/^\ufeff/, '') : text
    if (text !== '') this.isFirst = false
    const events: StreamEvent[] = []
    for (;;) {
      // A CR at the end may be the first half of CRLF.
      const end = /\r\n|\n|\r(?!$)/.exec(this.buffered)
      if (end === null) return events
      const line = this.buffered.slice(0, end.index)
      this.buffered = this.buffered.slice(end.index + end[0].length)
      const event = this.line(line)
      if (event !== null) events.push(event)
    }
  }

  /** The stream is at its end. */
  finish(): StreamEvent[] {
    const isLine = this.buffered.endsWith('\r')
    return isLine ? this.push('\n') : []
  }

  private line(line: string): StreamEvent | null {
    if (line === '') return this.dispatch()
    const colon = line.indexOf(':')
    if (colon === 0) return null
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') this.type = value
    else if (field === 'data') this.data += `${value}\n`
    else if (field === 'id' && !value.includes('\0')) this.idBuffer = value
    else if (field === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value)
    return null
  }

  private dispatch(): StreamEvent | null {
    const { data, type } = this
    this.lastEventId = this.idBuffer
    this.data = ''
    this.type = ''
    if (data === '') return null
    return { type: type || 'message', data: data.replace(/\n$/, ''), lastEventId: this.lastEventId }
  }
}
