import { readKeys } from '../terminal/keys.ts'
import { openScreen } from '../terminal/screen.ts'
import type { Demo } from './demo.ts'
import type { Display } from './display.ts'
import { frame, startingFrame } from './view.ts'

const redrawMs = 250

/** The live table. */
export function createTableDisplay(): Display {
  const screen = openScreen(process.stdout)
  const keys = process.stdin.isTTY === true
  let demo: Demo | null = null
  let timer: NodeJS.Timeout | null = null
  let stopKeys = () => {}
  const lines = () => (demo === null ? startingFrame() : frame(stateOf(demo, keys), screen))
  const draw = () => screen.draw(lines())
  screen.onResize(draw)
  draw()
  return {
    attach(attached, quit) {
      demo = attached
      timer = setInterval(draw, redrawMs)
      draw()
      if (!keys) return
      stopKeys = readKeys((key) => {
        if (key === 'q') quit()
        else attached.press(key)
        draw()
      })
    },
    ready: draw,
    close() {
      if (timer !== null) clearInterval(timer)
      stopKeys()
      // The legend means nothing any more.
      screen.close(demo === null ? [] : lines().slice(0, -1))
    },
  }
}

function stateOf({ cluster, monitor, clients, readyAt }: Demo, keys: boolean) {
  return {
    now: Date.now(),
    readyAt,
    pageUrl: cluster.pageUrl,
    redisUrl: cluster.redisUrl,
    gateways: cluster.gateways(),
    nodes: monitor.nodes(),
    clientsWanted: clients.wanted,
    clients: clients.report,
    migrations: monitor.migrations,
    pauseMs: monitor.pauseMs,
    redelivered: monitor.redelivered,
    notes: monitor.notes,
    keys,
  }
}
