export interface ServerEvent {
  readonly type: string
  readonly data: string
}

/** Reads Server-Sent Events as a gateway writes them: one `data` line, lines that end with LF. Comments are passed over. */
export async function* readEvents(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<ServerEvent> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += piece.value
    const blocks = text.split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const [, type = '', data] = /^(?:event: (.*)\n)?data: (.*)$/s.exec(block) ?? []
      if (data !== undefined) yield { type, data }
    }
  }
}
