import { expect, onTestFinished, test } from 'vitest'
import { launchBrowser } from '../support/browser.ts'
import { startCluster } from '../support/cluster.ts'
import { noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'
import { RemoteCrowd } from '../support/remote-crowd.ts'

const clients = 5_000
const patience = { timeout: 120_000 }
const seed = testSeed('dashboard soak')

test('a node with 5,000 sessions is drained from the dashboard: nobody notices', async () => {
  await using cluster = await startCluster({ config: { rebalance: { enabled: false } } })
  const full = await cluster.addNode()
  await using crowd = await RemoteCrowd.connect({
    url: cluster.clientUrl,
    clients,
    messagesPerSecond: 1_000,
    seed,
  })
  await crowd.startSending()
  const page = await (await launchBrowser()).newPage({ viewport: { width: 1280, height: 900 } })
  onTestFinished(() => page.close())
  await page.goto(cluster.internalUrl)
  const sessions = () => page.locator('#figure-sessions').textContent()
  await expect.poll(sessions, patience).toBe('5,000')
  await cluster.addNode()
  await page.getByRole('button', { name: `Drain ${full.id}` }).click()
  await page.getByRole('dialog').getByLabel('Moves per second').fill('0')
  await page.getByRole('dialog').getByRole('button', { name: 'Drain', exact: true }).click()
  const operation = page.locator('#operations li', { hasText: `Drain of ${full.id}` })
  await operation.locator('[data-state=done]').waitFor(patience)
  const result = await operation.locator('.about').textContent()
  console.log(`dashboard: ${result}`)
  expect(result).toMatch(/^5,000 of 5,000 moved · pause p50 .* ms, p99 .* ms/)
  await crowd.answers(5_000)
  await crowd.settle()
  expect(await crowd.verdict()).toMatchObject({ ...noFaults, clients, closed: [], notes: [] })
}, 300_000)
