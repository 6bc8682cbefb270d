import { setTimeout as sleep } from 'node:timers/promises'
import { NumberedClient } from '../../support/numbered-client.ts'
import { createRandom } from '../../support/random.ts'
import type { Held } from '../memory-hook.ts'
import { type AttackedGateway, startAttacked } from '../stage.ts'
import { adminFuzzer } from './admin.ts'
import { frameFuzzer } from './frames.ts'
import type { Fuzzer } from './fuzzer.ts'
import { headFuzzer } from './heads.ts'
import { postFuzzer } from './posts.ts'
import { recordFuzzer } from './records.ts'

/** Records last: that node takes all new sessions. */
const fuzzers: readonly Fuzzer[] = [headFuzzer, frameFuzzer, postFuzzer, adminFuzzer, recordFuzzer]
const shares: Record<string, number> = {
  'HTTP heads': 0.2,
  'WebSocket frames': 0.2,
  'SSE posts': 0.2,
  'admin JSON': 0.2,
  'link records': 0.2,
}
const goodClients = 10
/** A gateway that does not answer for so long hangs; a busy machine is no failure. */
const patienceMs = 10_000

export interface Verdict {
  readonly inputs: Record<string, number>
  readonly seconds: number
  readonly before: Held
  readonly after: Held
  /** Messages of good clients that were answered, each once and in order. */
  readonly answered: number
  /** The longest time that a good client's answer or the health check took. */
  readonly worstMs: number
  /** What the gateway has called an error of its own. */
  readonly errors: readonly string[]
}

/** So many inputs of all kinds against one gateway process, beside good clients. Throws when one of those lost anything, or the gateway ended or hung. */
export async function fuzz(inputs: number, seed: number): Promise<Verdict> {
  const gateway = await startAttacked({
    tokens: { node: 'the-node-token', admin: 'the-admin-token' },
    config: {
      rebalance: { enabled: false },
      log: { level: 'info' },
      limits: { handshakeMs: 2_000, idlePingMs: 2_000, idlePongMs: 6_000, resumeMs: 2_000, downNodes: 100 },
    },
  })
  try {
    // What a gateway needs when it is warm is no leak.
    await runAll(gateway, Math.min(5_000, inputs / 10), seed + 1)
    await quiet(gateway)
    const before = await gateway.held()
    const good = await Promise.all(
      Array.from({ length: goodClients }, () => NumberedClient.connect(gateway.wsUrl)),
    )
    const watch = new Watch(gateway, good)
    for (const client of good) client.stream(1)
    const begin = performance.now()
    const counts = await Promise.race([runAll(gateway, inputs, seed), watch.failed])
    const seconds = (performance.now() - begin) / 1000
    watch.stop()
    for (const client of good) {
      await client.finish()
      client.verify()
      if (client.others.length > 0) throw new Error(`a good client got ${client.others[0]}`)
      client.ws.close()
    }
    await quiet(gateway)
    const after = await gateway.held()
    const answered = good.reduce((sum, client) => sum + client.answered, 0)
    return {
      inputs: counts,
      seconds,
      before,
      after,
      answered,
      worstMs: watch.worstMs,
      errors: gateway.errors(),
    }
  } finally {
    await gateway.close()
  }
}

async function runAll(
  { target }: AttackedGateway,
  inputs: number,
  seed: number,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const [i, fuzzer] of fuzzers.entries()) {
    counts[fuzzer.name] = await fuzzer.run(
      target,
      createRandom(seed + i),
      Math.ceil(inputs * shares[fuzzer.name]!),
    )
  }
  return counts
}

/** Until what was left behind has been given up. */
async function quiet(gateway: AttackedGateway): Promise<void> {
  const deadline = performance.now() + 30_000
  while ((await gateway.clients()) > 0) {
    if (performance.now() > deadline)
      throw new Error(`${await gateway.clients()} connections are never given up`)
    await sleep(200)
  }
}

/** Looks at health and progress while the inputs come. */
class Watch {
  worstMs = 0
  /** Only ever rejects. */
  readonly failed: Promise<never>
  private stopped = false

  constructor(gateway: AttackedGateway, good: readonly NumberedClient[]) {
    this.failed = Promise.race([
      gateway.exited.then(() => {
        throw new Error('the gateway has ended')
      }),
      this.look(gateway, good),
    ])
    this.failed.catch(() => {})
  }

  stop(): void {
    this.stopped = true
  }

  private async look({ target }: AttackedGateway, good: readonly NumberedClient[]): Promise<never> {
    const url = `http://127.0.0.1:${target.publicPort}/healthz`
    while (!this.stopped) {
      const begin = performance.now()
      const answered = good.map((client) => client.answered)
      const response = await fetch(url, { signal: AbortSignal.timeout(patienceMs) })
      if (response.status !== 200) throw new Error(`/healthz says ${response.status}`)
      while (good.some((client, i) => client.answered === answered[i])) {
        if (performance.now() - begin > patienceMs) throw new Error('a good client is not served')
        await sleep(5)
      }
      this.worstMs = Math.max(this.worstMs, performance.now() - begin)
      await sleep(250)
    }
    return new Promise(() => {})
  }
}
