import type { Command } from 'commander'
import type { RebalanceResult } from '../../gateway/operator.ts'
import { addOperatorCommand, type OperatorContext, operatorAction } from '../operator-command.ts'

interface Options {
  pool?: string
  dryRun?: boolean
}

type Answer = RebalanceResult | { plans: RebalanceResult[] }

export function addRebalance(program: Command): void {
  addOperatorCommand(program, 'rebalance', 'move as few sessions as needed so that shares fit the weights')
    .option('--pool <name>', 'only this pool')
    .option('--dry-run', 'print the plan and move nothing')
    .action(
      operatorAction<[], Options>(async (context, _args, { pool, dryRun }) => {
        const body = { ...(pool === undefined ? {} : { pool }), ...(dryRun === true ? { dryRun } : {}) }
        const answer = await context.api.call<Answer>('POST', '/rebalance', body)
        await report(context, answer)
      }),
    )
}

async function report(context: OperatorContext, answer: Answer): Promise<void> {
  const { assertDone, operationLine } = await import('../follow-operation.ts')
  const { printPlan } = await import('../views.ts')
  const plans = 'plans' in answer ? answer.plans : [answer]
  if (plans.length === 0 && !context.json) context.out.line('No node has registered yet.')
  for (const plan of plans) {
    if (!context.json) printPlan(context.out, plan)
    if (plan.operation === null) continue
    plan.operation = await context.follow(plan.operation)
    if (!context.json) context.out.line(operationLine(plan.operation, context.out.colour))
  }
  if (context.json) context.out.json(answer)
  for (const { operation } of plans) if (operation !== null) assertDone(operation)
}
