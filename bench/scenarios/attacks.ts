import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { otherUser } from '../../test/attacks/redis.ts'
import type { Threat } from '../../test/attacks/threat.ts'
import { threats } from '../../test/attacks/threats.ts'
import type { AttackCommand, AttackResult } from '../load/attacker.ts'
import { Load } from '../load/handle.ts'
import { peakRssKib, quickRssKib } from '../measure/memory.ts'
import { isSettled, median } from '../measure/statistics.ts'
import { type RunningGateway, startGateway } from '../peers/evenkeel.ts'
import { startRedis } from '../peers/redis.ts'
import {
  type Child,
  failure,
  firstMessage,
  isRunning,
  scratchDirectory,
  startNodeScript,
} from '../processes.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { checkOpened, payloadBytes, type Report, type Scenario, type Settings } from './scenario.ts'

const goodClients = 200
const messagesPerSecond = 1_000
/** What the p99 of the good clients may be of what it was. */
const most = 2
const tokens = { node: 'node-token-of-the-benchmark', admin: 'admin-token-of-the-benchmark' }
/** What is slow on purpose is cut after this time, by default after 10 s. */
const handshakeMs = 3_000
/** Before anything is measured each attack is tried for so long at so many times its rate: a gateway that has run for a while has compiled what they reach. */
const warmUp = { ms: 2_000, times: 10 }

interface Round {
  threat: string
  quietP99: number
  attackedP99: number
  growthMib: number
  /** CPU of the gateway beyond that of the window before, for each attempt. */
  cpuMs: number
  result: AttackResult
}

export const attacks: Scenario = {
  name: 'attacks',
  summary: 'each line of the threat table is tried while 200 good clients go on',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const stage = await startStage()
  const attackers = await startAttackers()
  const load = await Load.start()
  const { port } = stage.gateway
  const opened = await load.call('open', { port, path: '/ws', connections: goodClients, payloadBytes })
  checkOpened('evenkeel', opened, remarks)
  await load.call('closedLoop', { outstanding: 1, warmMs: 1_000, windowMs: 1_000, watch: {} })
  const rounds: Round[] = []
  const repeats = settings.quick ? { least: 1, most: 1 } : { least: 7, most: 21 }
  const windowMs = settings.quick ? 1_500 : 3_000
  for (const threat of threats) {
    settings.progress(`warm-up: ${threat.name}`)
    await attack(attackers, threat, stage, settings.quick ? 200 : warmUp.ms, warmUp.times)
  }
  for (let i = 0; i < repeats.most; i++) {
    const open = i < repeats.least ? threats : threats.filter((threat) => !isClear(threat, rounds))
    for (const [index, threat] of open.entries()) {
      settings.progress(`repeat ${i + 1}, ${index + 1} of ${open.length}: ${threat.name}`)
      rounds.push(await measure(threat, stage, attackers, load, windowMs, remarks))
    }
  }
  return reportOf(rounds, remarks)
}

function timesQuiet({ attackedP99, quietP99 }: Round): number {
  return attackedP99 / quietP99
}

/** A line near the goal, on whichever side, is measured until chance does not decide. */
function isClear(threat: Threat, rounds: readonly Round[]): boolean {
  return isSettled(rounds.filter((round) => round.threat === threat.name).map(timesQuiet), most)
}

interface Stage {
  gateway: RunningGateway
  target: AttackCommand['target']
}

async function startStage(): Promise<Stage> {
  const redis = await startRedis()
  const client = new Redis(redis.url)
  await client.call('ACL', 'SETUSER', otherUser.name, 'on', `>${otherUser.password}`, ...otherUser.rules)
  client.disconnect()
  const file = (name: string, content: string) => {
    const path = join(scratchDirectory(), name)
    writeFileSync(path, content)
    return path
  }
  const config = {
    redis: redis.url,
    nodeTokenFile: file('node-token', tokens.node),
    adminTokenFile: file('admin-token', tokens.admin),
    pools: { legacy: { upstreams: [] } },
    channels: { history: [{ match: 'kept:*', size: 10 }] },
    limits: { handshakeMs },
    log: { level: 'error' },
  }
  const gateway = await startGateway(['--config', file('attacked.json', JSON.stringify(config))])
  const node = new URL('../../test/attacks/node.ts', import.meta.url)
  const link = `ws://127.0.0.1:${gateway.internalPort}`
  await firstMessage(
    startNodeScript('node', node, ['--id=good', `--gateway=${link}`, `--token=${tokens.node}`]),
  )
  const { port, internalPort } = gateway
  const secrets = { nodeToken: tokens.node, adminToken: tokens.admin }
  return { gateway, target: { publicPort: port, internalPort, redisUrl: redis.url, ...secrets } }
}

async function startAttackers(): Promise<Child> {
  // In the field attackers have machines of their own: here they get only what the others leave.
  const script = new URL('../load/attacker.ts', import.meta.url)
  const attackers = startNodeScript('attackers', script, [], { idle: true })
  await firstMessage(attackers)
  return attackers
}

async function measure(
  threat: Threat,
  stage: Stage,
  attackers: Child,
  load: Load,
  windowMs: number,
  remarks: Remarks,
): Promise<Round> {
  const { gateway } = stage
  const watch = { gateway: gateway.pids }
  const window = () => load.call('openLoop', { rate: messagesPerSecond, warmMs: 200, windowMs, watch })
  const quiet = await window()
  const rss = quickRssKib(gateway.pids)
  const over = attack(attackers, threat, stage, windowMs + 400)
  let good = quiet
  const peak = await peakRssKib(gateway.pids, async () => {
    good = await window()
  })
  const result = await over
  if (!isRunning(gateway.child)) throw failure(gateway.child, `ended under ${threat.name}`)
  for (const { errors, notes } of [quiet, good])
    if (errors.closed + errors.wrong > 0)
      remarks.failures.push(`${threat.name}: good clients were disturbed (${notes[0]})`)
  const { others } = result
  if (Object.keys(others).length > 0)
    remarks.failures.push(`${threat.name}: ${JSON.stringify(others).slice(0, 200)}`)
  const attempts = (threat.perSecond * windowMs) / 1_000
  return {
    threat: threat.name,
    quietP99: quiet.latencyUs.p99,
    attackedP99: good.latencyUs.p99,
    growthMib: (peak - rss) / 1024,
    cpuMs: (good.cpuNs.gateway! - quiet.cpuNs.gateway!) / 1e6 / attempts,
    result,
  }
}

/** Tries it for so long at its rate, or at that many `times`, and waits for all answers. */
function attack(
  attackers: Child,
  threat: Threat,
  { target }: Stage,
  forMs: number,
  times = 1,
): Promise<AttackResult> {
  const command: AttackCommand = { threat: threat.name, target, forMs, times }
  attackers.process.send(command)
  return new Promise((resolve, reject) => {
    const hear = (message: unknown) => {
      const { result } = message as { result?: AttackResult }
      if (result === undefined) return
      attackers.process.off('message', hear).off('exit', ended)
      resolve(result)
    }
    const ended = () => reject(failure(attackers, 'ended'))
    attackers.process.on('message', hear).once('exit', ended)
  })
}

function reportOf(rounds: readonly Round[], remarks: Remarks): Report {
  const lines = threats.map(({ name, perSecond }) => {
    const own = rounds.filter(({ threat }) => threat === name)
    const of = (pick: (round: Round) => number) => median(own.map(pick))
    const sum = (pick: (round: Round) => number) => own.reduce((total, round) => total + pick(round), 0)
    return {
      name,
      perSecond,
      repeats: own.length,
      documented: `${sum(({ result }) => result.documented)} of ${sum(({ result }) => result.attempts)}`,
      quiet: of(({ quietP99 }) => quietP99),
      attacked: of(({ attackedP99 }) => attackedP99),
      overQuiet: of(timesQuiet),
      cpu: of(({ cpuMs }) => cpuMs),
      growth: Math.max(...own.map(({ growthMib }) => growthMib)),
    }
  })
  const table: Table = {
    title: `p99 in µs of ${goodClients} good clients at ${messagesPerSecond} messages per second; attacks from one process at the rate named`,
    head: [
      'attack',
      'per second',
      'repeats',
      'documented',
      'quiet',
      'attacked',
      '× quiet',
      'CPU ms each',
      'peak +MiB',
    ],
    rows: lines.map((line) => [
      line.name,
      String(line.perSecond),
      String(line.repeats),
      line.documented,
      figure(line.quiet),
      figure(line.attacked),
      figure(line.overQuiet),
      figure(Math.max(0, line.cpu)),
      figure(line.growth),
    ]),
  }
  remarks.notes.push(
    `what is slow on purpose is cut after ${handshakeMs / 1000} s here, by default after 10 s`,
  )
  return {
    tables: [table],
    goals: lines.map(({ name, overQuiet }) =>
      atMost(`p99 of good clients under: ${name}`, overQuiet, most, '×'),
    ),
    remarks,
    data: rounds,
  }
}
