import { PassThrough } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../../../src/cli/config.ts'
import { edgeSettings } from '../../../src/cli/edge-settings.ts'
import { Admission } from '../../../src/edge/admission/admission.ts'
import { type EdgeSettings, targetOf } from '../../../src/edge/target.ts'

async function settingsOf(rateLimits: object, routes: object[] = []): Promise<EdgeSettings> {
  const { config } = await loadConfig({ env: {} })
  const changed = { ...config, routes: routes as never, rateLimits: { ...config.rateLimits, ...rateLimits } }
  return edgeSettings(changed, { nodeToken: null, adminToken: null }, Buffer.alloc(32), () => null)
}

interface Asked {
  user?: string | null
  address?: string
  url?: string
  upgrade?: boolean
  carrier?: PassThrough
}

/** A gateway's admission, whose clock stands still. */
async function door(rateLimits: object, routes: object[] = []) {
  const settings = { current: await settingsOf(rateLimits, routes) }
  const gateway = { pressure: 'normal', counters: { refused: {} }, cluster: { limiter: null }, now: () => 0 }
  const admission = new Admission({ gateway: gateway as never, settings })
  onTestFinished(() => admission.close())
  const ask = ({
    user = null,
    address = '10.0.0.1',
    url = '/ws',
    upgrade = true,
    carrier = new PassThrough(),
  }: Asked = {}) => {
    const request = { method: 'GET', url, headers: {}, socket: { remoteAddress: address } } as never
    const target = {
      ...targetOf(request, settings.current),
      identity: user === null ? null : { user, subject: user, claims: {}, validity: null },
    }
    const through = upgrade ? carrier : Object.assign(carrier, { setHeader() {}, getHeader() {} })
    try {
      admission.admit(request, through as never, target)
      admission.admitUser(request, through as never, target)
      return 'in'
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  return { settings, gateway, ask }
}

test('a user has so many connections at once, whatever their address', async () => {
  const { ask } = await door({ perUser: { connections: 2 } })
  const carrier = new PassThrough()
  const ada = (n: number, more: Asked = {}) => ask({ user: 'ada', address: `10.0.0.${n}`, ...more })
  expect([ada(1), ada(2, { carrier }), ada(3), ask({ user: 'bob' }), ask()]).toEqual([
    'in',
    'in',
    'TOO_MANY_REQUESTS',
    'in',
    'in',
  ])
  carrier.destroy()
  await new Promise((resolve) => carrier.once('close', resolve))
  expect([ada(4), ada(5)]).toEqual(['in', 'TOO_MANY_REQUESTS'])
})

test('a connection that has gone before it was counted takes no place', async () => {
  const { ask } = await door({ perIp: { connections: 1 } })
  const carrier = new PassThrough()
  carrier.destroy()
  await new Promise((resolve) => carrier.once('close', resolve))
  expect([ask({ carrier }), ask(), ask()]).toEqual(['in', 'in', 'TOO_MANY_REQUESTS'])
})

test('what is used up stays so when other settings change, and begins anew when the limit does', async () => {
  const limits = (burst: number) => ({ perIp: { newConnections: { perSecond: 0.01, burst } } })
  const { ask, settings } = await door(limits(1))
  expect([ask(), ask()]).toEqual(['in', 'TOO_MANY_REQUESTS'])
  settings.current = await settingsOf(limits(1))
  expect(ask()).toBe('TOO_MANY_REQUESTS')
  settings.current = await settingsOf(limits(2))
  expect([ask(), ask(), ask()]).toEqual(['in', 'in', 'TOO_MANY_REQUESTS'])
  settings.current = await settingsOf({})
  expect(ask()).toBe('in')
})

test('who is refused by himself takes nothing of what all have together', async () => {
  const { ask } = await door({
    gateway: { newConnections: { perSecond: 0.01, burst: 3 } },
    perIp: { newConnections: { perSecond: 0.01, burst: 1 } },
  })
  const from = (n: number) => ask({ address: `10.0.0.${n}` })
  expect([from(1), from(1), from(1), from(1)]).toEqual(['in', ...Array(3).fill('TOO_MANY_REQUESTS')])
  expect([from(2), from(3), from(4)]).toEqual(['in', 'in', 'OVERLOADED'])
})

test('the load refuses what is new, also of those who are exempt', async () => {
  const { ask, gateway } = await door({ exempt: ['10.0.0.0/8'] })
  gateway.pressure = 'shedding'
  expect(ask()).toBe('OVERLOADED')
  expect(gateway.counters.refused).toEqual({ overload: 1 })
})

test('each route has a limit of its own, and is limited as what it leads to', async () => {
  const routes = [
    { path: '/news', pool: 'default', protocol: 'sse' },
    { path: '/talk', pool: 'default', protocol: 'sse' },
  ]
  const { ask } = await door({ perRoute: { connections: 1 } }, routes)
  const stream = (url: string) => ask({ url, upgrade: false })
  expect([stream('/news'), stream('/news'), stream('/talk'), stream('/sse'), ask()]).toEqual([
    'in',
    'TOO_MANY_REQUESTS',
    'in',
    'in',
    'in',
  ])
  // A post to a session opens nothing.
  expect([stream('/news/session'), stream('/news/session')]).toEqual(['in', 'in'])
})
