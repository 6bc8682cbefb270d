import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DemoAction, DemoAnswer } from '../../../client/demo/words.ts'
import { EvenkeelError, toProblem } from '../../protocol/errors.ts'
import type { Extra } from '../start-gateway.ts'
import { stripTypes } from './strip-types.ts'

/** Does what the page asks for. Throws EvenkeelError. */
export type DemoControl = (action: DemoAction) => Promise<DemoAnswer>

/** `.ts` when run from the sources, `.js` when built. */
const isSource = import.meta.url.endsWith('.ts')
const root = fileURLToPath(new URL('../../../', import.meta.url))
/** Only what a browser is meant to get. */
const modulePath = /^\/demo\/((?:client|src\/core|src\/protocol)\/(?:[\w-]+\/)*[\w-]+)\.(?:ts|js)$/
const statics: Record<string, [file: string, type: string]> = {
  '/': ['client/demo/index.html', 'text/html; charset=utf-8'],
  '/demo/style.css': ['client/demo/style.css', 'text/css; charset=utf-8'],
}
const actionBytes = 4_096

const commonHeaders = {
  'cache-control': 'no-cache',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

/** The demo's page: what a gateway of the demo answers beside its own paths. */
export function createDemoPages(control: DemoControl): Extra {
  return async (request, response) => {
    const [target = '/'] = (request.url ?? '/').split('?', 1)
    if (target === '/demo/do' && request.method === 'POST') {
      await act(control, request, response)
      return true
    }
    if (request.method !== 'GET') return false
    const found = await contentOf(target)
    if (found === null) return false
    response.writeHead(200, { ...commonHeaders, 'content-type': found.type }).end(found.content)
    return true
  }
}

export function notReady(): EvenkeelError {
  return new EvenkeelError('NOT_READY', 'the demo is starting')
}

async function contentOf(target: string): Promise<{ content: string; type: string } | null> {
  const fixed = statics[target]
  if (fixed !== undefined)
    return { content: await readFile(path.join(root, fixed[0]), 'utf8'), type: fixed[1] }
  const module = modulePath.exec(target)?.[1]
  if (module === undefined) return null
  const type = 'text/javascript; charset=utf-8'
  try {
    const text = await readFile(path.join(root, `${module}.${isSource ? 'ts' : 'js'}`), 'utf8')
    return { content: isSource ? stripTypes(text) : text, type }
  } catch {
    return null
  }
}

async function act(control: DemoControl, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    checkOwnPage(request)
    const answer = await control(await readAction(request))
    json(response, 200, answer)
  } catch (error) {
    const problem = toProblem(error)
    json(response, problem.status, problem)
  }
}

/** So that no other web page can kill anything here. */
function checkOwnPage({ headers: { origin, host } }: IncomingMessage): void {
  if (origin !== undefined && URL.canParse(origin) && new URL(origin).host === host) return
  throw new EvenkeelError('FORBIDDEN', 'only the page of the demo may ask for this')
}

async function readAction(request: IncomingMessage): Promise<DemoAction> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk
    if (text.length > actionBytes) throw new EvenkeelError('TOO_LARGE', 'no action is that long')
  }
  try {
    const action = JSON.parse(text)
    if (typeof action.do === 'string') return action
  } catch {
    // Said below.
  }
  throw new EvenkeelError('BAD_REQUEST', 'the body must be {"do": …}')
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response
    .writeHead(status, { ...commonHeaders, 'content-type': 'application/json' })
    .end(JSON.stringify(body))
}
