import type { BrowserContextOptions, Page } from 'playwright-core'
import { expect, onTestFinished } from 'vitest'
import { tellStory } from '../../client/demo/story.ts'
import { launchBrowser } from './browser.ts'
import { kill, orExit, startChild } from './processes.ts'
import { until } from './until.ts'

interface Line {
  event?: 'ready'
  public: string
  gateways: { id: string; state: string; pid: number }[]
  nodes: { id: string; state: string; pid: number }[]
}

export const patience = { timeout: 30_000 }

/** The real CLI on free ports. */
export async function startDemo(...args: string[]) {
  const lines: Line[] = []
  const looks = new Set<() => void>()
  const child = startChild({
    name: 'evenkeel demo',
    script: 'src/cli/main.ts',
    args: ['demo', '--no-tty', '--clients', '0', '--port', '0', '--internal-port', '0', ...args],
    onLine(line) {
      lines.push(JSON.parse(line))
      for (const look of [...looks]) look()
    },
  })
  onTestFinished(() => void kill(child))
  const line = async (what: string, from: number, wanted: (line: Line) => boolean) => {
    const find = () => lines.slice(from).find(wanted)
    await orExit(
      child,
      until(() => find() !== undefined, looks, { what, timeoutMs: 60_000 }),
    )
    return find()!
  }
  const { public: url } = await line('ready', 0, ({ event }) => event === 'ready')
  const numbers = (wanted: (line: Line) => boolean) =>
    line('numbers', Math.max(1, lines.length - 1), (one) => one.event === undefined && wanted(one))
  return { url, numbers, page: await openPage(url) }
}

export async function openPage(url: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await (await launchBrowser()).newContext(options)
  const page = await context.newPage()
  page.on('pageerror', (error) => {
    throw error
  })
  page.on('console', (message) => {
    // A policy that stops something of the page's own would say so here.
    if (message.text().includes('Content Security Policy')) throw new Error(message.text())
  })
  await page.goto(url)
  await connected(page)
  return page
}

export const connected = (page: Page) => page.locator('#state[data-state=open]').waitFor(patience)
export const press = (page: Page, name: string) => page.getByRole('button', { name }).click()
export const answerTo = (page: Page, prompt: string) =>
  page.getByRole('article', { name: `Answer to: ${prompt}` })
export const textOf = async (page: Page, selector: string) => (await page.locator(selector).textContent())!

export async function ask(page: Page, prompt: string): Promise<void> {
  await page.getByLabel('Your question').fill(prompt)
  await press(page, 'Ask')
  await growing(page, prompt)
}

/** Waits for some more of the answer; there is more to come. */
export async function growing(page: Page, prompt: string): Promise<void> {
  const box = answerTo(page, prompt)
  const length = async () => ((await box.locator('.answer').textContent()) ?? '').length
  const before = await length()
  await expect.poll(length, { ...patience, interval: 20 }).toBeGreaterThan(before)
  expect(await box.getAttribute('aria-busy')).toBe('true')
}

/** The text that the page has in the end, and what it says of it. */
export async function complete(page: Page, prompt: string): Promise<void> {
  const box = answerTo(page, prompt)
  await expect.poll(() => box.getAttribute('aria-busy'), patience).toBe('false')
  expect(await box.locator('.answer').textContent()).toBe(tellStory(prompt))
  expect(await box.locator('.verdict').textContent()).toContain('byte for byte')
}
