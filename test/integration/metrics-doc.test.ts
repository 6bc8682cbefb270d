import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { startTestGateway } from '../support/in-process.ts'
import { localCertificate, tlsListener } from '../support/tls.ts'

/** Those that come with prom-client are named by their beginnings. */
const common = /^evenkeel_(process|nodejs)_/

test('docs/metrics.md names every metric, its type, and what it is', async () => {
  // Some are there with TLS only.
  const { internalUrl } = await startTestGateway({ public: tlsListener([localCertificate()]) as never })
  const text = await (await fetch(`${internalUrl}/metrics`)).text()
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]))
  const ours = [...text.matchAll(/^# HELP (\S+) (.+)$/gm)].filter(([, name]) => !common.test(name!))
  const documented = readFileSync(path.resolve(import.meta.dirname, '../../docs/metrics.md'), 'utf8')
  const rows = [...documented.matchAll(/^\| `(evenkeel_\w+)(?:\{[\w,]+\})?` \| (\w+) \| (.+) \|$/gm)]
  expect(rows.map(([, ...row]) => row)).toEqual(
    ours.map(([, name, help]) => [name!, types.get(name!)!, help!.replaceAll('|', '\\|')]),
  )
})
