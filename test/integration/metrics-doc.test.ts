import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'

/** Those that come with prom-client are named by their beginnings. */
const common = /^evenkeel_(process|nodejs)_/

/** They are there with TLS only. */
const encryption = {
  tls: [
    {
      listener: 'public',
      certificates: { all: [{ files: { certFile: 'a.pem' }, notAfter: 0 }], reloads: 0, failures: 0 },
      refused: 0,
    },
  ],
  http2: { connections: 0, streams: 0, counters: { resets: 0 } },
}

test('docs/metrics.md names every metric, its type, and what it is', async () => {
  const { internalUrl } = await startTestGateway()
  const text = await (await fetch(`${internalUrl}/metrics`)).text()
  const metrics = createMetrics(new FakeOperator(), null, encryption)
  onTestFinished(() => metrics.close())
  const text = await metrics.render()
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]))
  const ours = [...text.matchAll(/^# HELP (\S+) (.+)$/gm)].filter(([, name]) => !common.test(name!))
  const documented = readFileSync(path.resolve(import.meta.dirname, '../../docs/metrics.md'), 'utf8')
  const rows = [...documented.matchAll(/^\| `(evenkeel_\w+)(?:\{[\w,]+\})?` \| (\w+) \| (.+) \|$/gm)]
  expect(rows.map(([, ...row]) => row)).toEqual(
    ours.map(([, name, help]) => [name!, types.get(name!)!, help!.replaceAll('|', '\\|')]),
  )
})
