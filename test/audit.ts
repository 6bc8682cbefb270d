/**
 * Dependencies with known vulnerabilities, from `high` on, end the tests (exit code 1). Where the registry cannot be asked, offline
 * perhaps or behind a mirror without advisories, a sentence says so and the tests go on: test/unit/dependencies.test.ts still checks
 * the versions that this project's defences rest on.
 */
import { spawnSync } from 'node:child_process'

const timeoutMs = 60_000

interface Audit {
  metadata?: { vulnerabilities: Record<'high' | 'critical', number> }
  vulnerabilities?: Record<string, { severity: string; range: string }>
}

const { stdout } = spawnSync('npm', ['audit', '--json', '--fetch-retries=0', '--fetch-timeout=20000'], {
  encoding: 'utf8',
  timeout: timeoutMs,
})
const audit = parse(stdout ?? '')
if (audit?.metadata === undefined) {
  console.log('dependency audit: skipped, because the registry gave no advisories')
} else {
  const grave = Object.entries(audit.vulnerabilities ?? {}).filter(([, { severity }]) =>
    /high|critical/.test(severity),
  )
  for (const [name, { severity, range }] of grave)
    console.error(`dependency audit: ${name} ${range} (${severity})`)
  if (grave.length === 0) console.log('dependency audit: nothing grave')
  else process.exitCode = 1
}

function parse(text: string): Audit | null {
  try {
    return JSON.parse(text) as Audit
  } catch {
    return null
  }
}
