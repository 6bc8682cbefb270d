import { isAnswer } from '../../test/attacks/threat.ts'
import { threats } from '../../test/attacks/threats.ts'
import type { Target } from '../../test/attacks/wire.ts'

// The attackers' process: tries one threat at its rate for as long as it is told, and says what the gateway answered.

export interface AttackCommand {
  threat: string
  target: Omit<Target, 'secret'>
  forMs: number
  /** Of the rate of the threat. */
  times: number
}

export interface AttackResult {
  attempts: number
  documented: number
  /** Other answers, each with how often it came. */
  others: Record<string, number>
}

process.on('message', async ({ threat: name, target, forMs, times }: AttackCommand) => {
  const threat = threats.find((one) => one.name === name)!
  const result: AttackResult = { attempts: 0, documented: 0, others: {} }
  const pending = new Set<Promise<void>>()
  const attempt = async () => {
    const got = await threat.attack({ ...target, secret() {} }).catch((error: Error) => error.message)
    if (isAnswer(threat, got)) result.documented++
    else result.others[got] = (result.others[got] ?? 0) + 1
  }
  const begin = performance.now()
  await new Promise<void>((done) => {
    const timer = setInterval(() => {
      const elapsed = Math.min(performance.now() - begin, forMs)
      for (; result.attempts < (elapsed / 1000) * threat.perSecond * times; result.attempts++) {
        const one = attempt().finally(() => pending.delete(one))
        pending.add(one)
      }
      if (elapsed < forMs) return
      clearInterval(timer)
      done()
    }, 5)
  })
  process.send!({ windowOver: true })
  await Promise.all(pending)
  process.send!({ result })
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
