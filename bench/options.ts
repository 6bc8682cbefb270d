import { parseArgs } from 'node:util'
import { attacks } from './scenarios/attacks.ts'
import { balance } from './scenarios/balance.ts'
import { dashboard } from './scenarios/dashboard.ts'
import { fanout } from './scenarios/fanout.ts'
import { latency } from './scenarios/latency.ts'
import { memory } from './scenarios/memory.ts'
import { migration } from './scenarios/migration.ts'
import { resume } from './scenarios/resume.ts'
import { roundtrip } from './scenarios/roundtrip.ts'
import type { Scenario } from './scenarios/scenario.ts'
import { slowClient } from './scenarios/slow-client.ts'
import { socketio } from './scenarios/socketio.ts'
import { tokenStreams } from './scenarios/streams.ts'

export const scenarios: readonly Scenario[] = [
  roundtrip,
  latency,
  memory,
  migration,
  slowClient,
  fanout,
  socketio,
  tokenStreams,
  resume,
  balance,
  dashboard,
  attacks,
]

export interface Options {
  scenarios: readonly Scenario[]
  quick: boolean
  json: string | null
  help: boolean
}

export const help = `Usage: npm run bench -- [NAME…] [--quick] [--json FILE]

Measures Evenkeel beside nginx and a Node proxy made with ws, all in front of the same echo application, and
its fan-out beside nchan and socket.io, and Socket.IO beside nginx.

  NAME            only these (also: --only NAME,…):
${scenarios.map(({ name, summary }) => `                    ${name.padEnd(13)}${summary}`).join('\n')}
  --quick         about seven minutes; the figures are rough
  --json FILE     where the figures go (default: bench/results/<time>.json)
  --help          this text

Needs Linux (it reads /proc). nginx is left out when it is not installed: apt-get install nginx`

/** Throws with a message for the user. */
export function parseOptions(argv: string[]): Options {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const names = [...positionals, ...(values.only?.split(',') ?? [])]
  const chosen = names.length === 0 ? scenarios : names.map(scenarioNamed)
  return { scenarios: chosen, quick: values.quick, json: values.json ?? null, help: values.help }
}

function scenarioNamed(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name.trim())
  if (found !== undefined) return found
  throw new Error(
    `no benchmark "${name}"; there are ${scenarios.map((scenario) => scenario.name).join(', ')}`,
  )
}
