import { chromiumPath } from './browser.ts'
import { installPackage } from './install-package.ts'

/** The tests in `test/browser` want a real browser. Vitest runs this once, before all tests. */
export default function installChromium(): void {
  installPackage(chromiumPath, 'chromium')
}
