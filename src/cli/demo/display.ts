import type { Demo } from './demo.ts'

/** How a demo is shown. */
export interface Display {
  /** The gateway is open, the nodes are starting. */
  attach(demo: Demo, quit: () => void): void
  /** Nodes are up and clients connect. */
  ready(): void
  close(): void
}
