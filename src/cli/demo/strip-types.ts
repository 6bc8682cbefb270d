import { stripTypeScriptTypes } from 'node:module'

const stripped = new Map<string, string>()

/** JavaScript with the same lines and columns. */
export function stripTypes(source: string): string {
  const known = stripped.get(source)
  if (known !== undefined) return known
  const { emitWarning } = process
  try {
    // It warns that it is experimental, which would tear the table. Node.js runs this very project by the same means.
    process.emitWarning = () => {}
    const code = stripTypeScriptTypes(source)
    stripped.set(source, code)
    return code
  } finally {
    process.emitWarning = emitWarning
  }
}
