import type { BrowserContextOptions, Page } from 'playwright-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { tellStory } from '../../client/demo/story.ts'
import { launchBrowser } from '../support/browser.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { until } from '../support/until.ts'

/** The page of `npm start`, in a real browser: whatever is killed, its text is what the producer makes, byte for byte. */

interface Line {
  event?: 'ready'
  public: string
  gateways: { id: string; state: string; pid: number }[]
  nodes: { id: string; state: string; pid: number }[]
}

const patience = { timeout: 30_000 }

/** The real CLI on free ports. */
async function startDemo(...args: string[]) {
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

async function openPage(url: string, options: BrowserContextOptions = {}): Promise<Page> {
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

const connected = (page: Page) => page.locator('#state[data-state=open]').waitFor(patience)
const press = (page: Page, name: string) => page.getByRole('button', { name }).click()
const answerTo = (page: Page, prompt: string) => page.getByRole('article', { name: `Answer to: ${prompt}` })
const textOf = async (page: Page, selector: string) => (await page.locator(selector).textContent())!

async function ask(page: Page, prompt: string): Promise<void> {
  await page.getByLabel('Your question').fill(prompt)
  await press(page, 'Ask')
  await growing(page, prompt)
}

/** Waits for some more of the answer; there is more to come. */
async function growing(page: Page, prompt: string): Promise<void> {
  const box = answerTo(page, prompt)
  const length = async () => ((await box.locator('.answer').textContent()) ?? '').length
  const before = await length()
  await expect.poll(length, { ...patience, interval: 20 }).toBeGreaterThan(before)
  expect(await box.getAttribute('aria-busy')).toBe('true')
}

/** The text that the page has in the end, and what it says of it. */
async function complete(page: Page, prompt: string): Promise<void> {
  const box = answerTo(page, prompt)
  await expect.poll(() => box.getAttribute('aria-busy'), patience).toBe('false')
  expect(await box.locator('.answer').textContent()).toBe(tellStory(prompt))
  expect(await box.locator('.verdict').textContent()).toContain('byte for byte')
}

test('one answer survives reload, offline, two killed producers, a moved session and a lost network', async () => {
  const { page, numbers } = await startDemo()
  const prompt = 'Tell me about the tide'
  await ask(page, prompt)

  await press(page, 'Reload page')
  await connected(page)
  await growing(page, prompt)

  const producer = await textOf(page, '#producer')
  const { nodes } = await numbers(() => true)
  process.kill(nodes.find(({ id }) => id === producer)!.pid, 'SIGKILL')
  await expect.poll(() => textOf(page, '#producer'), patience).not.toBe(producer)
  await growing(page, prompt)

  await press(page, 'Move session')
  const moved = page.getByText(/the session of the page goes from node-\d+ to node-\d+/)
  const target = / to (node-\d+)$/.exec((await moved.textContent(patience))!)![1]
  await expect.poll(() => textOf(page, '#session-node'), patience).toBe(target)

  const next = await textOf(page, '#producer')
  await press(page, 'Kill the node')
  await page.getByText(`${next}: SIGKILL`).waitFor(patience)
  await expect.poll(() => textOf(page, '#producer'), patience).not.toBe(next)

  await press(page, 'Go offline')
  await expect.poll(() => page.locator('#state').getAttribute('data-state')).not.toBe('open')
  await press(page, 'Go online')
  await connected(page)

  await page.context().setOffline(true)
  await page.context().setOffline(false)
  await complete(page, prompt)
  expect(await page.getByRole('button', { name: 'Kill gateway' }).isVisible()).toBe(false)

  // What has ended is kept by the page.
  await page.reload()
  await complete(page, prompt)

  const other = 'Stop here'
  await ask(page, other)
  await press(page, 'Stop')
  await expect.poll(() => answerTo(page, other).getAttribute('aria-busy'), patience).toBe('false')
  const text = (await answerTo(page, other).locator('.answer').textContent())!
  expect(tellStory(other).startsWith(text) && text.length < tellStory(other).length).toBe(true)
}, 120_000)

test('with --redis an answer survives SIGKILL of the gateway, then of the next one and its producer', async () => {
  const { page, numbers } = await startDemo('--redis')
  const prompt = 'Tell me about the gateway'
  await ask(page, prompt)
  await press(page, 'Kill gateway')
  await page.getByText(/gateway-\d: SIGKILL/).waitFor(patience)
  await page.getByText('Back: the same session, nothing missing').waitFor(patience)
  await complete(page, prompt)

  // Another one has started in its place; now the one that the page is at dies with the producer.
  const { gateways, nodes } = await numbers(
    (line) => line.gateways.filter(({ state }) => state === 'up').length === 2,
  )
  const again = 'And about the boat'
  await ask(page, again)
  const producer = await textOf(page, '#producer')
  const here = gateways.find(({ state }) => state === 'up')!
  process.kill(nodes.find(({ id }) => id === producer)!.pid, 'SIGKILL')
  process.kill(here.pid, 'SIGKILL')
  // The balancer may not have heard of it yet.
  await expect
    .poll(
      () =>
        page.reload().then(
          () => true,
          () => false,
        ),
      patience,
    )
    .toBe(true)
  await complete(page, again)
}, 180_000)

describe('rooms', () => {
  test('two pages talk, see each other, and miss nothing while one is offline', async () => {
    const { page, url } = await startDemo()
    const other = await openPage(url)
    for (const [one, name] of [
      [page, 'Ada'],
      [other, 'Grace'],
    ] as const) {
      await one.getByLabel('Your name').fill(name)
      await one.getByLabel('Your name').press('Enter')
    }
    for (const one of [page, other])
      await expect.poll(() => textOf(one, '#members'), patience).toBe(': Ada, Grace')

    const say = async (one: Page, text: string) => {
      await one.getByLabel('Your message').fill(text)
      await press(one, 'Send')
    }
    const said = (one: Page, text: string) =>
      one.locator('#lines li[data-is=said]').getByText(text).waitFor(patience)
    await say(page, 'ahoy <b>there</b>')
    await said(other, 'ahoy <b>there</b>')
    await press(other, 'Go offline')
    await say(page, 'are you there?')
    await say(other, 'said offline')
    await said(page, 'are you there?')
    await press(other, 'Go online')
    for (const one of [page, other]) {
      for (const text of ['ahoy', 'are you there?', 'said offline']) await said(one, text)
      expect(await one.locator('#lines li').count()).toBe(3)
    }
    await other.close()
    await expect.poll(() => textOf(page, '#members'), patience).toBe(': Ada')
  }, 120_000)
})

test('the page fits a phone, names its fields and lets nothing else in', async () => {
  const { page, url } = await startDemo('--nodes', '1')
  const phone = await openPage(url, { viewport: { width: 360, height: 740 } })
  expect(await phone.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true)
  const nameless = await page.evaluate(
    `[...document.querySelectorAll('input, select, button, textarea')].filter((field) =>
      (field.labels?.[0]?.textContent ?? field.textContent).trim() === '').map(({ id }) => id)`,
  )
  expect(nameless).toEqual([])

  const { headers } = await page.request.get(url).then((response) => ({ headers: response.headers() }))
  expect(headers['content-security-policy']).toContain("default-src 'none'; script-src 'self'")
  for (const path of [
    'package.json',
    '../package.json',
    'src/cli/main.ts',
    'client/../src/cli/main.ts',
    'client/demo/index.html',
  ])
    expect((await fetch(`${url}/demo/${path}`)).status).toBe(404)
  const act = (headers: Record<string, string>) =>
    fetch(`${url}/demo/do`, { method: 'POST', headers, body: '{"do":"look"}' })
  expect((await act({ origin: url })).status).toBe(200)
  expect((await act({ origin: 'http://evil.example' })).status).toBe(403)
  expect((await act({})).status).toBe(403)
}, 120_000)
