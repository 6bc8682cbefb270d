import { expect, test } from 'vitest'
import { Link, type LinkSocket } from '../../src/link/link.ts'
import { RecordType, readU32, visitRecords } from '../../src/protocol/link-records.ts'

/** A socket whose peer does not read: what was sent must stay as it was. */
class StuckSocket implements LinkSocket {
  readonly sent: { batch: Buffer; asSent: Buffer }[] = []
  bufferedAmount = 1

  send(slab: Buffer, start: number, end: number): void {
    const batch = slab.subarray(start, end)
    this.sent.push({ batch, asSent: Buffer.from(batch) })
  }
  close(): void {}
  terminate(): void {}
}

test.each<[string, number, (link: Link) => void, (body: Buffer) => unknown, unknown]>([
  [
    'a number',
    RecordType.commit,
    (link) => link.putU32(RecordType.commit, 0, 1, 1, 7),
    (b) => readU32(b, 0),
    7,
  ],
  [
    'JSON',
    RecordType.report,
    (link) => link.putJson(RecordType.report, 0, 0, { a: 1 }),
    (b) => JSON.parse(String(b)),
    { a: 1 },
  ],
  ['a name', RecordType.join, (link) => link.putName(RecordType.join, 1, 1, 'room'), String, 'room'],
])('%s that begins a new slab is written there, not into what was sent', (_, type, put, read, expected) => {
  const socket = new StuckSocket()
  const link = new Link(
    socket,
    { record() {}, close() {} },
    { role: 'node', highWaterBytes: 2 ** 30, now: () => performance.now() },
  )
  link.putPayload(RecordType.output, 0, 1, 1, 1, Buffer.alloc(100 * 1024, 0x61))
  put(link)
  link.flush()
  const bodies: unknown[] = []
  for (const { batch, asSent } of socket.sent) {
    expect(batch.equals(asSent)).toBe(true)
    visitRecords(batch, 'node', (visited, _flags, _session, _term, bytes, start, end) => {
      if (visited === type) bodies.push(read(bytes.subarray(start, end)))
    })
  }
  expect(bodies).toEqual([expected])
})
