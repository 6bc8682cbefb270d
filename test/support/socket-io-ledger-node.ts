/** A node with `ledgerApp` that notes in a file, which survives a SIGKILL. It broadcasts while the message channel says so. */
import { openSync, writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'
import { Caster, ledgerApp, type Note } from './socket-io-ledger.ts'

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    weight: { type: 'string', default: '1' },
    redis: { type: 'string' },
    ledger: { type: 'string' },
    /** Passed over: what is said, is said at once. */
    delivery: { type: 'string' },
  },
})

const ledger = openSync(values.ledger!, 'a')
const note = (what: Note) => void writeSync(ledger, `${JSON.stringify(what)}\n`)
const io = new Server()
const attached = attachSocketIO(io, {
  id: values.id!,
  weight: Number(values.weight),
  redis: values.redis!,
  migrate: 'always',
})
ledgerApp(io, values.id!, note)
const caster = new Caster(io, values.id!, note)
process.on('message', ({ castEveryMs }: { castEveryMs: number | null }) => {
  if (castEveryMs === null) caster.stop()
  else caster.start(castEveryMs)
})
// Whoever leaves says no more.
process.on('SIGTERM', () => caster.stop())
await attached.ready
process.send?.('ready')
