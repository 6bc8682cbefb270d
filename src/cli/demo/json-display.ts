import type { Demo } from './demo.ts'
import type { Display } from './display.ts'

const lineMs = 1_000

/** One JSON line a second, for programs; the first one says where the listeners are. */
export function createJsonDisplay(): Display {
  let demo: Demo | null = null
  let timer: NodeJS.Timeout | null = null
  const print = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`)
  return {
    attach(attached) {
      demo = attached
    },
    ready() {
      const { cluster } = demo!
      const { internalUrl } = cluster.gateways()[0]!
      const redis = cluster.redisUrl === null ? {} : { redis: cluster.redisUrl }
      print({ event: 'ready', public: cluster.pageUrl, internal: internalUrl, ...redis })
      timer = setInterval(() => print(lineOf(demo!)), lineMs)
    },
    close() {
      if (timer !== null) clearInterval(timer)
    },
  }
}

function lineOf({ cluster, monitor, clients: { report } }: Demo) {
  return {
    at: Date.now(),
    gateways: cluster.gateways(),
    nodes: monitor.nodes().map((node) => ({
      id: node.id,
      weight: node.weight,
      state: node.state,
      health: node.health,
      sessions: node.sessions,
      share: round(node.share),
      fairShare: round(node.fairShare),
      messagesPerSecond: node.messagesPerSecond,
      pid: node.pid,
    })),
    clients: report.connected,
    sent: report.sent,
    answered: report.answered,
    migrations: monitor.migrations,
    pauseMs: monitor.pauseMs,
    lost: report.lost,
    doubled: report.doubled,
    reordered: report.reordered,
    closed: report.closed,
    redelivered: monitor.redelivered,
  }
}

function round(ratio: number): number {
  return Math.round(ratio * 1e4) / 1e4
}
