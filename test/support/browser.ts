import {
  type Browser,
  type BrowserContextOptions,
  chromium,
  type LaunchOptions,
  type Page,
} from 'playwright-core'
import { onTestFinished } from 'vitest'

/** EVENKEEL_CHROMIUM names another one. */
export const chromiumPath = process.env.EVENKEEL_CHROMIUM ?? '/usr/bin/chromium'

/** A browser without a window, which asks nobody outside for anything; it ends with the test. */
export async function launchBrowser(options: LaunchOptions = {}): Promise<Browser> {
  const browser = await chromium.launch({
    ...options,
    executablePath: chromiumPath,
    headless: true,
    args: [
      // As root Chromium has no sandbox; what it is shown here is ours.
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  onTestFinished(() => browser.close())
  return browser
}

/** A page of this origin with nothing on it, in a profile of its own. An error of its scripts fails the test. */
export async function blankPage(
  url: string,
  browser?: Browser,
  options: BrowserContextOptions = {},
): Promise<Page> {
  const context = await (browser ?? (await launchBrowser())).newContext(options)
  const page = await context.newPage()
  page.on('pageerror', (error) => {
    throw error
  })
  await page.goto(url)
  return page
}
