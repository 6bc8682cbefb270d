import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

export interface StaticFile {
  readonly type: string
  readonly content: Buffer
  /** Its name changes with its content. */
  readonly immutable: boolean
}

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** The built dashboard by path, `/` among them; empty where it was not built. */
export function readPages(directory: string): ReadonlyMap<string, StaticFile> {
  const files = new Map<string, StaticFile>()
  for (const name of listed(directory)) {
    const type = types[path.extname(name)]
    if (type === undefined) continue
    const content = readFileSync(path.join(directory, name))
    const at = `/${name.replaceAll(path.sep, '/')}`
    files.set(at === '/index.html' ? '/' : at, { type, content, immutable: at.startsWith('/assets/') })
  }
  return files
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: 'utf8' })
  } catch {
    return []
  }
}
