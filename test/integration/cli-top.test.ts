import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { finish, killChildren, root, start } from '../support/cli.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { Gate, numberedHandlers } from '../support/numbered.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { until } from '../support/until.ts'

afterEach(killChildren)

async function stage() {
  const gateway = await startTestGateway({ gatewayId: 'gw-top' })
  for (const id of ['a', 'b'])
    await startTestNode(
      gateway,
      numberedHandlers(id, new Gate(), () => {}),
      { id },
    )
  const clients = await Promise.all(Array.from({ length: 4 }, () => NumberedClient.connect(gateway.wsUrl)))
  return { gateway, clients }
}

/** `script` of util-linux gives it a terminal of its own. */
function startInTerminal(command: string) {
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    cwd: root,
    env: { ...process.env, TERM: 'xterm', COLUMNS: '120', LINES: '40' },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const looks = new Set<() => void>()
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text
    for (const look of [...looks]) look()
  })
  return {
    press: (key: string) => void child.stdin.write(key),
    /** Resolves once the text has been drawn since the last call. */
    async sees(text: string): Promise<void> {
      await until(() => stripVTControlCharacters(shown).includes(text), looks, {
        what: text,
        timeoutMs: 15_000,
      })
      shown = ''
    },
    exited: once(child, 'exit').then(([code]) => code as number),
    output: () => shown,
  }
}

test('top in a terminal: sees the cluster, asks before it drains, and gives the terminal back', async () => {
  const { gateway, clients } = await stage()
  const url = gateway.internalUrl
  const top = startInTerminal(
    `${process.execPath} --conditions=evenkeel-source src/cli/main.ts top --every 100 --url ${url}`,
  )
  await top.sees('sessions 4')
  top.press('\u001b[B')
  await top.sees('▸b')
  top.press('d')
  await top.sees('Drain b?')
  top.press('n')
  await top.sees('d drain')
  expect(gateway.operator.node('b').state).toBe('active')
  top.press('d')
  await top.sees('Drain b?')
  top.press('y')
  await top.sees('b is draining.')
  await top.sees('drained')
  expect(gateway.operator.node('a').sessions).toBe(4)
  top.press('w')
  await top.sees('Weight of b:')
  top.press('3')
  top.press('\r')
  await top.sees('b has weight 3.')
  top.press('r')
  await top.sees('Nothing to move')
  top.press('q')
  expect(await top.exited).toBe(0)
  expect(top.output()).toContain('\u001b[?1049l')
  for (const client of clients) expect(client.closeCode).toBeNull()
})

test('without a terminal it is JSON', async () => {
  const { gateway } = await stage()
  const { code, stdout } = await finish(start(['top', '--once', '--url', gateway.internalUrl]))
  expect(code).toBe(0)
  const { nodes, gateways } = JSON.parse(stdout)
  expect(nodes.map(({ id, sessions }: { id: string; sessions: number }) => [id, sessions])).toEqual([
    ['a', 2],
    ['b', 2],
  ])
  expect(gateways).toMatchObject([{ id: 'gw-top', self: true }])
})

test('without a gateway it says so', async () => {
  const { code, stderr } = await finish(start(['top', '--url', 'http://127.0.0.1:1']))
  expect([code, stderr]).toEqual([1, expect.stringContaining('Cannot reach a gateway')])
})
