import { installPackage } from './install-package.ts'

/** The tests of the PROXY protocol want a real `haproxy`. Vitest runs this once, before all tests. */
export default function installHaproxy(): void {
  installPackage('haproxy', 'haproxy', '-v')
}
