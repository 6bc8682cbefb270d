import { runGateway } from '../run-gateway.ts'
import { ControlCaller } from './control-channel.ts'
import { createDemoPages } from './pages.ts'

/** The module of a gateway of the demo: one as any other, which also serves the page. Its argument: the values that flags would set, as JSON. */

const caller = new ControlCaller(process)
await runGateway(
  { env: process.env, flags: JSON.parse(process.argv[2]!) },
  createDemoPages((action) => caller.call(action)),
)
