import { mkdirSync } from 'node:fs'
import path from 'node:path'
import type { Page } from 'playwright-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { launchBrowser } from '../support/browser.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Gate, numberedHandlers } from '../support/numbered.ts'
import { NumberedClient } from '../support/numbered-client.ts'

/** What operators do in the dashboard, on a live cluster, and what its clients see of it. */

const adminToken = 'admin-token-of-this-test'
const patience = { timeout: 15_000 }
/** EVENKEEL_SCREENSHOTS=1 writes those of the documentation. */
const pictures = process.env.EVENKEEL_SCREENSHOTS === '1'

async function startNodes(gateway: TestGateway, weights: Record<string, number>): Promise<void> {
  for (const [id, weight] of Object.entries(weights))
    await startTestNode(
      gateway,
      numberedHandlers(id, new Gate(), () => {}),
      { id, weight, version: '2.1.0' },
    )
}

async function stage(clients = 24) {
  const gateway = await startTestGateway(
    { gatewayId: 'gw-1', limits: { gatewayDrainMs: 200 } },
    { adminToken },
  )
  await startNodes(gateway, { a: 1, b: 1, c: 1 })
  const crowd: NumberedClient[] = []
  for (let i = 0; i < clients; i++) crowd.push(await NumberedClient.connect(gateway.wsUrl))
  for (const client of crowd) client.stream(2)
  const page = await openPage(gateway)
  await signIn(page)
  return { gateway, crowd, page }
}

async function openPage(gateway: TestGateway): Promise<Page> {
  const browser = await launchBrowser()
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
  page.on('pageerror', (error) => {
    throw error
  })
  page.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) throw new Error(message.text())
  })
  await page.goto(gateway.internalUrl)
  return page
}

async function signIn(page: Page, token = adminToken): Promise<void> {
  await page.getByLabel('Admin token').fill(token)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

const row = (page: Page, node: string) => page.locator(`[role=row][data-node="${node}"]`)
const dialog = (page: Page) => page.getByRole('dialog')
const confirm = (page: Page, name: string) => dialog(page).getByRole('button', { name, exact: true }).click()
const sessionsOf = async (page: Page, node: string) =>
  Number((await row(page, node).locator('.counts .figure').textContent())?.replaceAll(',', ''))
const focused = (page: Page) => page.locator(':focus')
const operation = (page: Page, title: string) => page.locator('#operations li', { hasText: title })

/** All clients are answered, in order, by these nodes alone from now on. */
async function answeredBy(crowd: NumberedClient[], nodes: string[]): Promise<void> {
  for (const client of crowd) {
    await client.answers()
    await client.until(() => nodes.includes(client.replies.at(-1)!.node), `an answer of ${nodes.join(', ')}`)
  }
}

async function finish(crowd: NumberedClient[]): Promise<void> {
  for (const client of crowd) {
    await client.finish()
    client.verify({ repeats: false })
  }
}

async function picture(page: Page, name: string): Promise<void> {
  if (!pictures) return
  const folder = path.resolve(import.meta.dirname, '../../docs/images')
  mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: path.join(folder, `${name}.png`) })
}

describe('the dashboard', () => {
  test('asks for the token, and shows the cluster by it', async () => {
    const { gateway, crowd, page } = await stage(6)
    await expect.poll(() => sessionsOf(page, 'a'), patience).toBe(2)
    expect(await page.locator('#figure-nodes').textContent()).toBe('3 of 3')
    await page.locator('#plot-messages[aria-label^="Messages per second: from clients"]').waitFor(patience)
    expect(await page.getByRole('table', { name: 'Nodes' }).getAttribute('aria-rowcount')).toBe('4')
    await finish(crowd)

    const stranger = await openPage(gateway)
    await signIn(stranger, 'a guess')
    await stranger.getByText('This is not the token.').waitFor(patience)
    expect(await stranger.locator('#app').isVisible()).toBe(false)
    expect(await stranger.locator('#token').inputValue()).toBe('')
  })

  test('drains a node and takes it back', async () => {
    const { crowd, page } = await stage()
    await row(page, 'a').getByRole('button', { name: 'Drain a' }).click()
    await picture(page, 'dashboard-drain')
    await confirm(page, 'Drain')
    await operation(page, 'Drain of a').locator('[data-state=done]').waitFor(patience)
    expect(await operation(page, 'Drain of a').textContent()).toMatch(
      /8 of 8 moved · pause p50 .* ms, p99 .* ms/,
    )
    await expect.poll(() => sessionsOf(page, 'a'), patience).toBe(0)
    await answeredBy(crowd, ['b', 'c'])

    await row(page, 'a').getByRole('button', { name: 'Activate a' }).click()
    await confirm(page, 'Activate')
    await expect.poll(() => sessionsOf(page, 'a'), patience).toBeGreaterThanOrEqual(7)
    await finish(crowd)
  })

  test('weighs nodes; shows the plan before it moves anybody', async () => {
    const { gateway, crowd, page } = await stage()
    // By itself it would do what the button is to do.
    gateway.operator.drain('b')
    await expect.poll(() => sessionsOf(page, 'b'), patience).toBe(0)
    await row(page, 'c').getByRole('button', { name: 'weight of c: 1; change' }).click()
    await dialog(page).getByLabel('Weight').fill('2')
    await confirm(page, 'Change')
    await row(page, 'c').getByRole('button', { name: 'weight of c: 2; change' }).waitFor(patience)
    await expect.poll(() => sessionsOf(page, 'c'), patience).toBeGreaterThanOrEqual(15)

    await page.getByRole('button', { name: 'Rebalance…' }).click()
    await dialog(page)
      .getByText(/imbalance .* now, .* after/)
      .waitFor(patience)
    await confirm(page, 'Close')
    await picture(page, 'dashboard')
    await finish(crowd)
  })

  test('moves and closes one session, and shows where it has been', async () => {
    const { gateway, crowd, page } = await stage(3)
    const { id, node } = gateway.operator.sessions({}).sessions[0]!
    const target = node === 'b' ? 'c' : 'b'
    await row(page, node!).getByRole('link', { name: node! }).click()
    await page.getByRole('link', { name: id }).click()
    await page.getByRole('button', { name: 'Move…' }).click()
    await dialog(page).getByLabel('To').selectOption(target)
    await confirm(page, 'Move')
    const history = page.locator('#session-history li')
    await expect
      .poll(() => history.evaluateAll((all) => all.map((one) => one.getAttribute('data-node'))), patience)
      .toEqual([target, node])
    expect(await history.first().textContent()).toContain('an operator moved it')
    await crowd[0]!.until(
      () => crowd.some(({ replies }) => replies.at(-1)?.term === 2),
      'an answer of the new node',
    )
    await picture(page, 'dashboard-session')

    await page.getByRole('button', { name: 'Close…' }).click()
    await confirm(page, 'Close it')
    await page.getByText('There is no such session, or it has ended.').waitFor(patience)
    expect(crowd.map(({ closeCode }) => closeCode).sort()).toEqual([1000, null, null])
    await finish(crowd.filter(({ closeCode }) => closeCode === null))
  })

  test('drains the gateway: its clients are sent elsewhere', async () => {
    const { crowd, page } = await stage(3)
    for (const client of crowd) client.stream(0)
    await page.getByRole('button', { name: 'Drain gateway gw-1' }).click()
    await confirm(page, 'Drain')
    await expect.poll(() => crowd.map(({ closeCode }) => closeCode), patience).toEqual([1012, 1012, 1012])
    await operation(page, 'Drain of gateway gw-1').locator('[data-state=done]').waitFor(patience)
  })

  test('is used by keyboard alone', async () => {
    const { page } = await stage(3)
    await row(page, 'a').waitFor(patience)
    await page.getByRole('button', { name: 'Drain a' }).focus()
    await page.keyboard.press('Enter')
    await dialog(page).waitFor(patience)
    // The first field has the focus; what is behind the dialog cannot get it.
    expect(await focused(page).getAttribute('name')).toBe('rate')
    await page.keyboard.press('Escape')
    expect(await dialog(page).count()).toBe(0)
    expect(await focused(page).getAttribute('aria-label')).toBe('Drain a')
    expect(await page.locator('button:not([aria-label]):empty').count()).toBe(0)
  })

  test('says when the gateway is gone, and goes on when it is back', async () => {
    const { page } = await stage(3)
    await page.locator('#state[data-state=active]').waitFor(patience)
    await page.route('**/api/v1/**', (route) => route.abort())
    await page.locator('#state', { hasText: 'the gateway does not answer' }).waitFor(patience)
    await page.unroute('**/api/v1/**')
    await page.locator('#state', { hasText: 'live' }).waitFor(patience)
    onTestFinished(() => page.close())
  })
})
