import { describe, expect, test } from 'vitest'
import { createTracing } from '../../src/cli/tracing.ts'
import { noTracing } from '../../src/gateway/tracing.ts'

describe('off', () => {
  test('nothing is loaded, and the same object does nothing for all gateways', async () => {
    const load = () => Promise.reject(new Error('loaded'))
    const { tracing, flush } = await createTracing({ enabled: false, clientContext: 'parent' }, load)
    expect(tracing).toBe(noTracing)
    await flush(0)
  })

  test('the null object has no span and no context', () => {
    expect(noTracing.isOn).toBe(false)
    expect(noTracing.run('default/story', 1, null, 0)).toBe(null)
    const request = noTracing.requested({
      name: 'evenkeel.connect',
      context: null,
      attributes: {},
      over: () => expect.fail('there was no beginning'),
    })
    request.end({ outcome: 'opened', status: null })
    expect(request.context).toBe(null)
  })
})

test('without the package, the error names the field and the remedy', async () => {
  const missing = Object.assign(new Error('no such package'), { code: 'ERR_MODULE_NOT_FOUND' })
  const tracing = createTracing({ enabled: true, clientContext: 'parent' }, () => Promise.reject(missing))
  await expect(tracing).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(/^tracing\.enabled: .*npm install @opentelemetry\/api/),
  })
})

test('an exporter that hangs keeps no gateway from ending', async () => {
  const { trace } = await import('@opentelemetry/api')
  trace.setGlobalTracerProvider({
    getTracer: () => null,
    forceFlush: () => new Promise(() => {}),
  } as never)
  const { flush } = await createTracing({ enabled: true, clientContext: 'parent' })
  await flush(10)
  trace.disable()
})
