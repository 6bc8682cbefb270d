import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type MachineFacts, machineFacts } from './measure/machine.ts'
import { help, type Options, parseOptions } from './options.ts'
import { stopAll } from './processes.ts'
import { renderGoal } from './report/goals.ts'
import { messageOf } from './report/remarks.ts'
import { renderTable } from './report/table.ts'
import type { Report, Scenario } from './scenarios/scenario.ts'

/** 0 = measured, 1 = something could not be measured or answered wrongly, 2 = usage. A missed goal is a result, not a failure. */
async function main(argv: string[]): Promise<number> {
  const options = optionsOrComplaint(argv)
  if (typeof options === 'string') {
    process.stderr.write(`${options}\n\n${help}\n`)
    return 2
  }
  if (options.help) {
    process.stdout.write(`${help}\n`)
    return 0
  }
  if (process.platform !== 'linux') {
    process.stderr.write('The benchmarks read CPU time and memory from /proc, so they run on Linux only.\n')
    return 1
  }
  return measureAll(options)
}

async function measureAll(options: Options): Promise<number> {
  const startedAt = new Date().toISOString()
  const machine = machineFacts()
  print(machineLine(machine))
  const results: Record<string, Report | { error: string }> = {}
  let failures = 0
  for (const scenario of options.scenarios) {
    const result = await measureOne(scenario, options.quick)
    if ('error' in result || result.remarks.failures.length > 0) failures++
    results[scenario.name] = result
  }
  const file =
    options.json ??
    fileURLToPath(new URL(`./results/${startedAt.replaceAll(':', '-')}.json`, import.meta.url))
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify({ startedAt, quick: options.quick, machine, results }, null, 2)}\n`)
  print(`\nFigures of every repeat: ${file}`)
  return failures === 0 ? 0 : 1
}

async function measureOne(scenario: Scenario, quick: boolean): Promise<Report | { error: string }> {
  print(`\n${scenario.name}: ${scenario.summary}`)
  try {
    const report = await scenario.run({ quick, progress })
    progress('')
    for (const table of report.tables) print(`\n${renderTable(table)}`)
    print(`\n${report.goals.map(renderGoal).join('\n')}`)
    for (const note of report.remarks.notes) print(`  note: ${note}`)
    for (const failure of report.remarks.failures) print(`  FAILED: ${failure}`)
    return report
  } catch (error) {
    progress('')
    print(`  FAILED: ${messageOf(error)}`)
    return { error: messageOf(error) }
  } finally {
    await stopAll()
  }
}

function optionsOrComplaint(argv: string[]): Options | string {
  try {
    return parseOptions(argv)
  } catch (error) {
    return messageOf(error)
  }
}

function machineLine({ node, nginx, ws, cores, cpu, kernel, loadAverage }: MachineFacts): string {
  const versions = `node ${node}, ws ${ws}, nginx ${nginx ?? 'not installed'}`
  const busy = loadAverage > 0.5 ? `; load average ${loadAverage.toFixed(1)} before the start` : ''
  return `${versions}; ${cores} × ${cpu}, ${kernel}${busy}`
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** On a terminal one line that is written over; elsewhere nothing. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text === '' ? '' : `  … ${text}`}`)
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, async () => {
    await stopAll()
    process.exit(code)
  })
}

const code = await main(process.argv.slice(2))
await stopAll()
process.exit(code)
