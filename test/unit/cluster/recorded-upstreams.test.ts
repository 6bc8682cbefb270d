import { expect, onTestFinished, test } from 'vitest'
import { RecordedUpstreams } from '../../../src/cluster/recorded-upstreams.ts'
import type { RecordsView, StoredUpstreams, UpstreamRecords } from '../../../src/cluster/upstreams.ts'
import { EvenkeelError } from '../../../src/protocol/errors.ts'
import { Recorder } from '../../support/recorder.ts'

/** A store whose answers wait until a test lets them go. */
function slowStore() {
  const entries = new Map<string, string>()
  const settings = new Map<string, string>()
  let lineage = 'one'
  const reads: { seen: RecordsView; answer: () => void }[] = []
  const problems: string[] = []
  let failure: EvenkeelError | null = null
  let revision = 0
  let waiting = new Recorder<string>()
  const records: UpstreamRecords = {
    async add(id, json) {
      revision++
      entries.set(id, json)
      return 'added'
    },
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
        lineage,
        entries: [...entries],
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
    entries,
    settings,
    /** Another server, which somebody has written to already. */
    lose(now: [field: string, json: string]) {
      entries.clear()
      settings.clear()
      settings.set(...now)
      lineage = 'two'
      revision++
    },
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

test('data that was lost is written again, also where others were faster to write something', async () => {
  const { upstreams, entries, read, lose } = slowStore()
  const seen = new Recorder<StoredUpstreams>()
  upstreams.watch(seen.add)
  entries.set('a', '{"pool":"p","url":"http://10.0.0.1"}')
  ;(await read()).answer()
  await seen.until((items) => items.at(-1)!.upstreams.size === 1)
  lose(['weight/b', '{"weight":2,"at":1}'])
  // One answer may have been on its way.
  for (let n = 0; n < 3; n++) (await read()).answer()
  await seen.until((items) => items.at(-1)!.settings.size === 1)
  expect([...entries.keys()]).toEqual(['a'])
  expect(seen.items.slice(1).every((content) => content.upstreams.has('a'))).toBe(true)
})

test('a wish that was lost before it was seen in the store is written again', async () => {
  const { upstreams, settings, read, lose } = slowStore()
  const seen = new Recorder<StoredUpstreams>()
  upstreams.watch(seen.add)
  ;(await read()).answer()
  // It was asked before the wish was taken.
  const early = await read()
  upstreams.set('a', { weight: 2 })
  await expect.poll(() => settings.size).toBe(1)
  lose(['weight/b', '{"weight":3,"at":1}'])
  early.answer()
  for (let n = 0; n < 3; n++) (await read()).answer()
  await seen.until((items) => items.at(-1)!.settings.size === 2)
  expect(seen.items.slice(1).every((content) => content.settings.get('a')?.weight === 2)).toBe(true)
  await expect.poll(() => [...settings.keys()].sort()).toEqual(['weight/a', 'weight/b'])
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
