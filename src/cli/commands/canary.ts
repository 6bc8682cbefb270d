import { type Command, InvalidArgumentError } from 'commander'
import { canaryLimits } from '../../core/balance/canary.ts'
import type { CanaryView } from '../../gateway/canary-operator.ts'
import type { Operation } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { integerFrom } from '../arguments.ts'
import { addOperatorCommand, type OperatorContext, operatorAction } from '../operator-command.ts'

type Started = Operation & { canary: CanaryView }

interface StartOptions {
  percent: number
  watch?: number
  maxErrorRatio?: number
  maxTimeRatio?: number
  minSessions?: number
  wait: boolean
}

const { percent, watchMs, ratio, minSessions } = canaryLimits
const parsePercent = numberFrom(percent)
const parseRatio = numberFrom(ratio)

export function addCanary(program: Command): void {
  const canary = program
    .command('canary')
    .description("give a share of a pool's live sessions to nodes of another version, and take it back")
  addStart(canary)
  addStatus(canary)
  addOperatorCommand(canary, 'return', 'give the sessions back; the version gets no more')
    .argument('<canary>', 'its id')
    .option('--no-wait', 'order it and return')
    .action(
      operatorAction<[string], { wait: boolean }>(async (context, [id], { wait }) => {
        await report(context, await post(context, `/canaries/${segment(id)}/return`, {}), wait)
      }),
    )
  addOperatorCommand(
    canary,
    'promote',
    'give the version the whole pool: nodes of other versions are drained',
  )
    .argument('<canary>', 'its id')
    .option('--percent <n>', 'only raise its share, and watch anew', parsePercent)
    .option('--no-wait', 'order it and return')
    .action(
      operatorAction<[string], { percent?: number; wait: boolean }>(async (context, [id], options) => {
        const body = options.percent === undefined ? {} : { percent: options.percent }
        await report(context, await post(context, `/canaries/${segment(id)}/promote`, body), options.wait)
      }),
    )
}

function addStart(canary: Command): void {
  addOperatorCommand(canary, 'start', 'move a share of the sessions to nodes of a version and watch them')
    .argument('<pool>', 'whose sessions')
    .argument('<version>', 'as its nodes announce it')
    .requiredOption('--percent <n>', 'of the sessions, 0.1 to 50', parsePercent)
    .option(
      '--watch <ms>',
      'how long errors are watched; default 600000',
      integerFrom(watchMs.least, watchMs.most),
    )
    .option('--max-error-ratio <n>', 'so much oftener than the others it may fail; default 2', parseRatio)
    .option('--max-time-ratio <n>', 'so much longer its messages may take; default 3', parseRatio)
    .option(
      '--min-sessions <n>',
      'that it must have on average to pass; default 1',
      integerFrom(minSessions.least, minSessions.most),
    )
    .option('--no-wait', 'start it and return')
    .action(
      operatorAction<[string, string], StartOptions>(async (context, [pool, version], options) => {
        const { percent, watch, maxErrorRatio, maxTimeRatio, minSessions } = options
        const given = { watchMs: watch, maxErrorRatio, maxTimeRatio, minSessions }
        const known = Object.entries(given).filter(([, value]) => value !== undefined)
        const body = { pool, version, percent, ...Object.fromEntries(known) }
        await report(context, await post(context, '/canaries', body), options.wait)
      }),
    )
}

function addStatus(canary: Command): void {
  addOperatorCommand(canary, 'status', 'list the canaries, or show one')
    .argument('[canary]', 'its id')
    .action(
      operatorAction<[string | undefined], object>(async (context, [id]) => {
        const { api, out, json } = context
        const found = await (id === undefined
          ? api.call<CanaryView[]>('GET', '/canaries')
          : api.call<CanaryView>('GET', `/canaries/${segment(id)}`))
        if (json) return out.json(found)
        const list = Array.isArray(found) ? found : [found]
        if (list.length === 0) return out.line('There is no canary.')
        await print(context, list)
      }),
    )
}

function post({ api }: OperatorContext, path: string, body: object): Promise<Started> {
  return api.call<Started>('POST', path, body)
}

/** Follows the moves, not the watch: that may take days. */
async function report(context: OperatorContext, started: Started, wait: boolean): Promise<void> {
  const { assertDone, operationLine } = await import('../follow-operation.ts')
  const { api, out, json } = context
  const operation = wait ? await context.follow(started) : started
  const canary = wait
    ? await api.call<CanaryView>('GET', `/canaries/${segment(started.canary.id)}`)
    : started.canary
  if (json) out.json({ ...operation, canary })
  else {
    out.line(operationLine(operation, out.colour))
    await print(context, [canary])
  }
  assertDone(operation)
}

async function print({ out }: OperatorContext, canaries: CanaryView[]): Promise<void> {
  const { canaryColumns } = await import('../canary-view.ts')
  out.table(canaries, canaryColumns(Date.now()))
}

function numberFrom({ least, most }: { least: number; most: number }): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+(\.\d+)?$/.test(text) && value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a number from ${least} to ${most}.`)
  }
}
