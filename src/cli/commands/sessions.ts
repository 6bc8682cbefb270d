import type { Command } from 'commander'
import type { SessionView } from '../../gateway/operator.ts'
import { integerFrom } from '../arguments.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

interface Options {
  node?: string
  limit: number
  cursor?: string
}

export function addSessions(program: Command): void {
  addOperatorCommand(program, 'sessions', 'list sessions and the nodes that hold them')
    .option('--node <id>', 'only the sessions of this node')
    .option('--limit <n>', 'sessions on one page', integerFrom(1, 1000), 100)
    .option('--cursor <cursor>', 'the page after the one that named this cursor')
    .action(
      operatorAction<[], Options>(async ({ api, out, json }, _args, options) => {
        const query = new URLSearchParams({ limit: String(options.limit) })
        if (options.node !== undefined) query.set('node', options.node)
        if (options.cursor !== undefined) query.set('cursor', options.cursor)
        const page = await api.call<{ sessions: SessionView[]; next: string | null }>(
          'GET',
          `/sessions?${query}`,
        )
        if (json) return out.json(page)
        if (page.sessions.length === 0) return out.line('No sessions.')
        const { sessionColumns } = await import('../views.ts')
        const { printable } = await import('../output.ts')
        out.table(page.sessions, sessionColumns(Date.now()))
        if (page.next !== null) out.line(`There are more: --cursor ${printable(page.next)}`)
      }),
    )
}
