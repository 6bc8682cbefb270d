import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { poolsSchema } from '../../src/cli/upstreams-schema.ts'
import { startTestGateway } from '../support/in-process.ts'
import { authBy, issuerOf } from '../support/tokens.ts'

/** Servers behind routes that let some in whom others turn away (docs/identity.md, docs/routes.md). */

interface Seen {
  url: string
  headers: IncomingHttpHeaders
}

async function served(routes: object[]) {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    seen.push({ url: request.url!, headers: request.headers })
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const [auth, tokens] = authBy(await issuerOf('HS256'), { required: false }, { userHeader: 'x-user' })
  const pools = poolsSchema.parse({ web: { upstreams: [{ id: 'w', url }] } })
  const gateway = await startTestGateway({ ...auth, pools, routes: routes as never }, tokens)
  return { gateway, seen }
}

function statusOf(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest({ host: '127.0.0.1', port, path, agent: false, ...options }, (response) => {
      response.resume()
      resolve(response.statusCode!)
    })
    asked.on('error', reject)
    asked.end()
  })
}

test('a path is the same one however its letters are written', async () => {
  const { gateway, seen } = await served([
    { path: '/admin/*', pool: 'web', auth: 'required' },
    { path: '/*', pool: 'web', auth: 'none' },
  ])
  for (const path of ['/admin/x', '/%61dmin/x', '/adm%69n/x', '/%61%64%6D%69%6e/x'])
    expect([path, await statusOf(gateway.publicPort, path)]).toEqual([path, 401])
  expect(seen).toEqual([])
  expect(await statusOf(gateway.publicPort, '/open/%61%2F%C3%A4')).toBe(200)
  expect(seen.map(({ url }) => url)).toEqual(['/open/%61%2F%C3%A4'])
})

test('a preflight request is nobody, whatever it says of itself', async () => {
  const { gateway, seen } = await served([{ path: '/*', pool: 'web', auth: 'required' }])
  const headers = { origin: 'https://a.example', 'access-control-request-method': 'POST', 'x-user': 'root' }
  expect(await statusOf(gateway.publicPort, '/x', { method: 'OPTIONS', headers })).toBe(200)
  expect(seen[0]!.headers['x-user']).toBeUndefined()
})
