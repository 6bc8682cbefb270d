import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { tellStory } from '../../client/demo/story.ts'
import {
  answerTo,
  ask,
  complete,
  connected,
  growing,
  openPage,
  patience,
  press,
  startDemo,
  textOf,
} from '../support/demo-page.ts'

/** The page of `npm start`, in a real browser: whatever is killed, its text is what the producer makes, byte for byte. */

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

test('with --redis an answer survives SIGKILL of the gateway', async () => {
  const { page } = await startDemo('--redis')
  const prompt = 'Tell me about the gateway'
  await ask(page, prompt)
  await press(page, 'Kill gateway')
  await page.getByText(/gateway-\d: SIGKILL/).waitFor(patience)
  await page.getByText('Back: the same session, nothing missing').waitFor(patience)
  await complete(page, prompt)
}, 120_000)

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
