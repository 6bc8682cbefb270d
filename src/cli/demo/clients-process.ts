import { addVerdict, DemoClient } from './client.ts'
import type { ClientsReport, StartClients } from './clients-messages.ts'

/** The module of the clients' process: their work must not take time from the gateway. */

const connectsPerMs = 2
const reportMs = 500

process.once('message', ({ urls, clients: count }: StartClients) => {
  const totals = { sent: 0, answered: 0, lost: 0, doubled: 0, reordered: 0, closed: 0 }
  const clients = Array.from({ length: count }, (_, index) => {
    const first = index % urls.length
    const inTurn = [...urls.slice(first), ...urls.slice(0, first)]
    return new DemoClient(`c${index + 1}`, inTurn, totals)
  })
  for (const [index, client] of clients.entries()) setTimeout(() => client.connect(), index / connectsPerMs)

  setInterval(() => {
    const now = performance.now()
    const report: ClientsReport = { ...totals, connected: 0 }
    for (const client of clients) {
      if (client.connected) report.connected++
      const verdict = client.verdict(now)
      if (verdict !== null) addVerdict(report, verdict)
    }
    process.send?.(report)
  }, reportMs)
})
