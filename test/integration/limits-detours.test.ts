import { once } from 'node:events'
import { Socket } from 'engine.io-client'
import { expect, onTestFinished, test } from 'vitest'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'

/** Ways around limits that look like those of somebody who is in already (docs/limits.md). */

test.each([[['polling']], [['polling', 'websocket']], [['websocket']]])(
  'a session of Engine.IO is a connection for as long as it lives: %j',
  async (transports) => {
    const gateway = await startTestGateway({ rateLimits: { perIp: { connections: 2 } } as never })
    await startTestNode(gateway, echo)
    const attempt = async (): Promise<Socket | null> => {
      const socket = new Socket(gateway.httpUrl, { path: '/engine.io/', transports })
      onTestFinished(() => void socket.close())
      const opened = await new Promise((resolve) => {
        socket.on('open', () => resolve(true))
        socket.on('error', () => resolve(false))
      })
      if (opened !== true) return null
      if (transports.length > 1) await new Promise<void>((resolve) => socket.on('upgrade', () => resolve()))
      // An answer: nothing of the handshake is under way any more.
      socket.send('hello')
      await once(socket as never, 'message')
      return socket
    }
    const first = await attempt()
    expect([first, await attempt(), await attempt()]).toEqual([expect.any(Socket), expect.any(Socket), null])
    first!.close()
    await expect.poll(attempt).not.toBeNull()
  },
)
