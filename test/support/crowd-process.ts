/** A crowd in a process of its own, so that its load does not slow down what the test itself does. */
import { Crowd, type CrowdOptions } from './crowd.ts'
import type { CrowdAnswer, CrowdCall } from './remote-crowd.ts'

let crowd: Crowd | null = null

const actions: Record<CrowdCall['action'], (argument: never) => unknown> = {
  async connect(options: CrowdOptions) {
    crowd = await Crowd.connect(options)
  },
  startSending: () => crowd!.startSending(),
  answers: (count: number) => crowd!.answers(count, { timeoutMs: 60_000 }),
  fence: () => crowd!.fence({ timeoutMs: 60_000 }),
  settle: () => crowd!.settle(),
  replace: (sessions: string[]) => crowd!.replace(sessions),
  progress: () => ({ echoes: crowd!.echoes, closed: crowd!.verdict().closed.length }),
  verdict: () => crowd!.verdict(),
}

process.on('message', async ({ id, action, argument }: CrowdCall) => {
  const answer: CrowdAnswer = { id }
  try {
    answer.result = await actions[action](argument as never)
  } catch (error) {
    answer.error = String((error as Error).stack)
  }
  process.send!(answer)
})
