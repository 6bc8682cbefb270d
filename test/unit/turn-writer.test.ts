import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { Outgoing, TurnWriter } from '../../src/edge/turn-writer.ts'
import { Turn } from '../../src/gateway/turn.ts'

/** A socket whose kernel buffer is full: it keeps what it is given. */
class FullSocket {
  readonly kept: Buffer[] = []

  get writableLength(): number {
    return this.kept.reduce((sum, { length }) => sum + length, 0)
  }

  write(bytes: Buffer): boolean {
    this.kept.push(bytes)
    return false
  }

  cork(): void {}
  uncork(): void {}
}

const noHeader = Buffer.alloc(0)

test('what goes to TLS is a copy, and the slab is used again', async () => {
  const writer = new TurnWriter(new Turn())
  const socket = Object.assign(new FullSocket(), { encrypted: true })
  const out = new Outgoing(socket as unknown as Socket)
  for (const text of ['first', 'other']) {
    writer.write(out, noHeader, 0, Buffer.from(text), 0, 5)
    writer.append(out, Buffer.from('!'))
    await new Promise(setImmediate)
  }
  expect(Buffer.concat(socket.kept).toString()).toBe('first!other!')
})

test('bytes that were flushed before the end of the turn are not written over by the next one', async () => {
  const writer = new TurnWriter(new Turn())
  const slow = new FullSocket()
  const first = new Outgoing(slow as unknown as Socket)
  writer.write(first, noHeader, 0, Buffer.from('first'), 0, 5)
  // As a close does, whose frame must come behind the messages.
  first.flush()
  await new Promise(setImmediate)

  const second = new Outgoing(new FullSocket() as unknown as Socket)
  writer.write(second, noHeader, 0, Buffer.from('other'), 0, 5)
  await new Promise(setImmediate)
  expect(Buffer.concat(slow.kept).toString()).toBe('first')
})
