import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'

const root = path.resolve(import.meta.dirname, '../..')

export interface Block {
  /** Relative to the root of the project. */
  file: string
  line: number
  language: string
  text: string
}

export interface Command {
  /** `docs/cluster.md:39` */
  where: string
  /** On one line, without its comment. */
  text: string
}

/** Every markdown file of the project. */
export function markdownFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
    cwd: root,
    encoding: 'utf8',
  })
  return listed.split('\n').filter((file) => file !== '')
}

/** What users are told to type or to write: README.md and docs/. */
export function guides(): string[] {
  return markdownFiles().filter((file) => file === 'README.md' || file.startsWith('docs/'))
}

export function readGuide(file: string): string {
  return readFileSync(path.join(root, file), 'utf8')
}

export function blocksOf(file: string, ...languages: string[]): Block[] {
  const text = readGuide(file)
  return [...text.matchAll(/^```([\w.]*)\n([\s\S]*?)^```/gm)]
    .map(({ 1: language, 2: content, index }) => ({
      file,
      line: text.slice(0, index).split('\n').length,
      language: language!,
      text: content!,
    }))
    .filter(({ language }) => languages.includes(language))
}

/** All commands of a shell block; of a `console` block those lines that begin with `$ `. */
export function commandsOf(block: Block): Command[] {
  const lines = block.text.replace(/\\\n\s*/g, ' ').split('\n')
  const typed =
    block.language === 'console'
      ? lines.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2))
      : lines
  return typed
    .map((line) => withoutComment(line).replace(/\s+/g, ' ').trim())
    .filter((text) => text !== '')
    .map((text) => ({ where: `${block.file}:${block.line}`, text }))
}

/** A `#` begins a comment where a word could begin. */
function withoutComment(line: string): string {
  let quote = ''
  for (const [index, character] of [...line].entries()) {
    if (quote !== '') {
      if (character === quote) quote = ''
    } else if (character === '"' || character === "'") quote = character
    else if (character === '#' && (index === 0 || line[index - 1] === ' ')) return line.slice(0, index)
  }
  return line
}

/** Text between single backticks outside of blocks. */
export function codeSpans(file: string): string[] {
  const prose = readGuide(file).replace(/^```[\s\S]*?^```/gm, '')
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text!)
}

/** The anchors of a file's headings, as GitHub makes them. */
export function anchorsOf(file: string): Set<string> {
  const prose = readGuide(file).replace(/^```[\s\S]*?^```/gm, '')
  const anchors = new Set<string>()
  for (const [, heading] of prose.matchAll(/^#{1,6} +(.+)$/gm)) {
    const text = heading!.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    const slug = text
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-')
    let unique = slug
    for (let count = 1; anchors.has(unique); count++) unique = `${slug}-${count}`
    anchors.add(unique)
  }
  return anchors
}
