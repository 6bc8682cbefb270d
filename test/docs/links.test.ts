import { existsSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { anchorsOf, markdownFiles, readGuide } from '../support/markdown.ts'

const root = path.resolve(import.meta.dirname, '../..')

/** Relative targets of links and images, with the line that they are in. */
function linksOf(file: string): { line: number; target: string }[] {
  const text = readGuide(file).replace(/^```[\s\S]*?^```/gm, (block) => block.replace(/[^\n]/g, ''))
  const found = text.matchAll(/\]\(<?([^()\s>]+)>?\)|<img[^>]+src="([^"]+)"/g)
  return [...found]
    .map((match) => ({
      line: text.slice(0, match.index).split('\n').length,
      target: match[1] ?? match[2]!,
    }))
    .filter(({ target }) => !/^[a-z]+:/.test(target))
}

function complaints(file: string): string[] {
  return linksOf(file).flatMap(({ line, target }) => {
    const [name, anchor] = target.split('#') as [string, string?]
    const leads = name === '' ? file : path.posix.join(path.posix.dirname(file), name)
    if (!existsSync(path.join(root, leads))) return [`${file}:${line} leads to ${leads}, which is not there`]
    if (anchor === undefined || !leads.endsWith('.md')) return []
    return anchorsOf(leads).has(anchor) ? [] : [`${file}:${line}: ${leads} has no heading #${anchor}`]
  })
}

test('relative links and anchors of all markdown files lead somewhere', () => {
  expect(markdownFiles().flatMap(complaints)).toEqual([])
})

test('docs/README.md leads to every page of docs/', () => {
  const listed = new Set(linksOf('docs/README.md').map(({ target }) => `docs/${target.split('#')[0]}`))
  const pages = markdownFiles().filter((file) => /^docs\/[^/]+\.md$/.test(file) && file !== 'docs/README.md')
  const missing = pages.filter((page) => !listed.has(page))
  expect(missing.map((page) => `docs/README.md does not lead to ${page}: add it there`)).toEqual([])
})
