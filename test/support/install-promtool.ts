import { installPackage } from './install-package.ts'

/** Alert rules are checked by the program that comes with Prometheus. Vitest runs this once, before all tests. */
export default function installPromtool(): void {
  installPackage('promtool', 'prometheus')
}
