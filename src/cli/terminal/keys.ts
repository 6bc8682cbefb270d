const ctrlC = '\u0003'
const ctrlD = '\u0004'
const sequenceStart = '\u001b'
/** As terminals send them, in both of their modes. */
const arrows: Record<string, string> = {
  '\u001b[A': 'up',
  '\u001b[B': 'down',
  '\u001bOA': 'up',
  '\u001bOB': 'down',
}

/** Hands over each key that is pressed, Ctrl-C and Ctrl-D as `q`, arrows as `up` and `down`, Escape as `escape`. Returns what ends it and restores the terminal. */
export function readKeys(onKey: (key: string) => void): () => void {
  const { stdin } = process
  const onData = (text: string) => {
    // Arrow keys and the like come as a sequence of characters that mean nothing by themselves.
    if (text.startsWith(sequenceStart)) {
      const key = text === sequenceStart ? 'escape' : arrows[text]
      if (key !== undefined) onKey(key)
      return
    }
    for (const key of text) onKey(key === ctrlC || key === ctrlD ? 'q' : key)
  }
  const onEnd = () => onKey('q')
  const restore = () => {
    stdin.setRawMode(false)
  }
  stdin.setRawMode(true)
  stdin.setEncoding('utf8').on('data', onData).on('end', onEnd).on('error', onEnd)
  process.on('exit', restore)
  return () => {
    process.off('exit', restore)
    stdin.off('data', onData).off('end', onEnd)
    restore()
    stdin.pause()
  }
}
