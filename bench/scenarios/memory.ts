import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { Load } from '../load/handle.ts'
import { exactRssKib } from '../measure/memory.ts'
import { assertAlive, type Peer, type PeerName } from '../peers/peer.ts'
import { startPeer } from '../peers/start.ts'
import { raiseFileLimit, stopAll } from '../processes.ts'
import { atMost } from '../report/goals.ts'
import { messageOf, noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import {
  checkLoad,
  checkOpened,
  payloadBytes,
  type Report,
  type Scenario,
  type Settings,
} from './scenario.ts'

const wantedConnections = 10_000
/** Each connection sends and gets this many messages before the second reading. */
const messagesEach = 3
const messagesPerSecond = 10_000

interface Footprint {
  connections: number
  /** KiB of resident memory per connection. */
  gatewayIdle: number
  gatewayAfterTraffic: number
  nodeIdle: number
  nodeAfterTraffic: number
}

export const memory: Scenario = {
  name: 'memory',
  summary: `resident memory per connection, ${wantedConnections.toLocaleString('en-US')} of them, idle and after traffic`,
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const fileLimit = openFileLimit()
  const footprints = new Map<PeerName, Footprint>()
  for (const name of ['evenkeel', 'nginx', 'ws-proxy'] as const) {
    settings.progress(name)
    const peer = await startPeer(name, remarks)
    if (peer === null) continue
    const connections = affordableConnections(peer, fileLimit, remarks)
    try {
      footprints.set(name, await footprintOf(peer, connections, settings, remarks))
    } catch (error) {
      remarks.failures.push(`${name}: ${messageOf(error)}`)
    }
    // Not left to the end: the next peer shall have the machine for itself.
    await stopAll()
  }
  const own = footprints.get('evenkeel')
  return {
    tables: [tableOf(footprints)],
    goals: [
      atMost('gateway, idle', own?.gatewayIdle ?? Number.NaN, 8, 'KiB a connection'),
      atMost('gateway, after traffic', own?.gatewayAfterTraffic ?? Number.NaN, 12, 'KiB a connection'),
    ],
    remarks,
    data: Object.fromEntries(footprints),
  }
}

async function footprintOf(
  peer: Peer,
  connections: number,
  settings: Settings,
  remarks: Remarks,
): Promise<Footprint> {
  const load = await Load.start()
  const { port, path, gateway, node } = peer
  const read = async () => {
    await sleep(settings.quick ? 1_000 : 3_000)
    assertAlive(peer)
    return { gateway: exactRssKib(gateway), node: exactRssKib(node) }
  }
  const before = await read()
  const opened = await load.call('open', { port, path, connections, payloadBytes })
  checkOpened(peer.name, opened, remarks)
  const { open } = opened
  const idle = await read()
  const windowMs = (messagesEach * connections * 1000) / messagesPerSecond
  const traffic = await load.call('openLoop', { rate: messagesPerSecond, warmMs: 0, windowMs, watch: {} })
  checkLoad(peer.name, traffic, remarks)
  const after = await read()
  return {
    connections: open,
    gatewayIdle: (idle.gateway - before.gateway) / open,
    gatewayAfterTraffic: (after.gateway - before.gateway) / open,
    nodeIdle: (idle.node - before.node) / open,
    nodeAfterTraffic: (after.node - before.node) / open,
  }
}

function openFileLimit(): number {
  const { stdout } = spawnSync('sh', ['-c', `${raiseFileLimit}; ulimit -n`], { encoding: 'utf8' })
  return stdout.trim() === 'unlimited' ? Infinity : Number(stdout)
}

/** A proxy with one upstream per client needs two descriptors for each, and some for itself. */
function affordableConnections({ name }: Peer, fileLimit: number, { notes }: Remarks): number {
  const each = name === 'evenkeel' ? 1 : 2
  const connections = Math.min(wantedConnections, Math.floor((fileLimit - 200) / each))
  if (connections < wantedConnections)
    notes.push(`${name}: ${connections} connections, because ${fileLimit} open files are allowed here`)
  return connections
}

function tableOf(footprints: Map<PeerName, Footprint>): Table {
  const rows = [...footprints].map(([peer, footprint]) => [
    peer,
    figure(footprint.connections),
    figure(footprint.gatewayIdle),
    figure(footprint.gatewayAfterTraffic),
    figure(footprint.nodeIdle),
    figure(footprint.nodeAfterTraffic),
  ])
  const head = ['', 'connections', 'gateway idle', 'gateway after traffic', 'node idle', 'node after traffic']
  return {
    title: 'KiB of resident memory per connection',
    head,
    rows,
  }
}
