import { addVerdict, DemoClient } from './client.ts'
import type { ClientsReport, StartClients } from './clients-messages.ts'

/** The module of the clients' process: their work must not take time from the gateway. */

const connectsPerMs = 2
const reportMs = 500

process.once('message', ({ url, clients: count }: StartClients) => {
  const totals = { sent: 0, answered: 0, lost: 0, doubled: 0, reordered: 0, closed: 0 }
  const clients = Array.from({ length: count }, (_, index) => new DemoClient(`c${index + 1}`, url, totals))
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
