import { expect, onTestFinished, test } from 'vitest'
import { RecordedUpstreams } from '../../../src/cluster/recorded-upstreams.ts'
import type { RecordsView, StoredUpstreams, UpstreamRecords } from '../../../src/cluster/upstreams.ts'
import { EvenkeelError } from '../../../src/protocol/errors.ts'
import { Recorder } from '../../support/recorder.ts'

/** A store whose answers wait until a test lets them go. */
function slowStore() {
  const settings = new Map<string, string>()
  const reads: { seen: RecordsView; answer: () => void }[] = []
  const problems: string[] = []
  let failure: EvenkeelError | null = null
  let revision = 0
  let waiting = new Recorder<string>()
  const records: UpstreamRecords = {
    add: async () => 'added',
    remove: async () => true,
    async set(field, json) {
      revision++
      if (json === null) settings.delete(field)
      else settings.set(field, json)
    },
    read() {
      if (failure !== null) return Promise.reject(failure)
      const seen: RecordsView = {
        digest: String(revision),
        written: true,
        entries: [],
        settings: [...settings],
        left: 0,
      }
      return new Promise((resolve) => {
        reads.push({ seen, answer: () => resolve(seen) })
        waiting.add('read')
      })
    },
    listen: () => () => {},
    status: () => ({ ready: true, reason: null }),
  }
  const upstreams = new RecordedUpstreams({
    records,
    refreshMs: 20,
    onProblem: ({ message }) => problems.push(message),
  })
  onTestFinished(() => upstreams.close())
  return {
    upstreams,
    problems,
    fail(error: EvenkeelError | null) {
      failure = error
    },
    /** The next read; it has seen what there was when it came. */
    async read() {
      await waiting.until(({ length }) => length > 0)
      waiting = new Recorder()
      return reads.shift()!
    },
  }
}

test('an answer that was made before a wish does not take the wish back', async () => {
  const { upstreams, read } = slowStore()
  const seen = new Recorder<StoredUpstreams>()
  upstreams.watch(seen.add)
  const early = await read()
  upstreams.set('a', { weight: 2 })
  // The store takes the wish while the answer to the earlier question is on its way.
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(early.seen.settings).toEqual([])
  early.answer()
  const later = await read()
  expect(later.seen.settings).toHaveLength(1)
  later.answer()
  ;(await read()).answer()
  const weights = seen.items.map(({ settings }) => settings.get('a')?.weight)
  expect(weights).toEqual([undefined, 2])
})

test('it is settled when the store was read, or is away; a problem that lasts is reported once', async () => {
  const { upstreams, read, fail, problems } = slowStore()
  let settled = false
  void upstreams.settled().then(() => {
    settled = true
  })
  upstreams.watch(() => {})
  const first = await read()
  expect(settled).toBe(false)
  first.answer()
  await upstreams.settled()

  fail(new EvenkeelError('INTERNAL', 'WRONGTYPE'))
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(problems).toEqual(['WRONGTYPE'])

  const away = slowStore()
  away.fail(new EvenkeelError('NOT_READY', 'away'))
  away.upstreams.watch(() => {})
  await away.upstreams.settled()
  expect(away.problems).toEqual([])
})
