import type { Command } from 'commander'
import type { UpstreamView } from '../../gateway/upstream-directory.ts'
import { segment } from '../api-client.ts'
import { parseWeight } from '../arguments.ts'
import { addOperatorCommand, type OperatorContext, operatorAction } from '../operator-command.ts'

export function addUpstreams(program: Command): void {
  const upstreams = addOperatorCommand(
    program,
    'upstreams',
    'list the servers that are known by URL; as nodes they are drained, activated and weighted like others',
  ).action(
    operatorAction<[], object>(async (context) => {
      const found = await context.api.call<UpstreamView[]>('GET', '/upstreams')
      if (context.json) return context.out.json(found)
      if (found.length === 0) return context.out.line('No upstream is listed.')
      await printUpstreams(context, found)
    }),
  )

  addOperatorCommand(upstreams, 'add', 'add an upstream to a pool, at all gateways')
    .argument('<pool>', 'a pool of the configuration')
    .argument('<url>', 'scheme, host and port, such as http://10.0.0.7:3000')
    .option('--weight <n>', 'above 0; default 1', parseWeight)
    .option('--id <id>', 'its name; default host:port')
    .action(
      operatorAction<[string, string], { weight?: number; id?: string }>(
        async (context, [pool, url], { weight, id }) => {
          const body = {
            pool,
            url,
            ...(weight === undefined ? {} : { weight }),
            ...(id === undefined ? {} : { id }),
          }
          const added = await context.api.call<UpstreamView>('POST', '/upstreams', body)
          if (context.json) return context.out.json(added)
          await printUpstreams(context, [added])
        },
      ),
    )

  addOperatorCommand(upstreams, 'remove', 'remove an upstream that was added; its sessions are drained')
    .argument('<upstream>', 'its id')
    .action(
      operatorAction<[string], object>(async ({ api, out, json }, [id]) => {
        await api.call('DELETE', `/upstreams/${segment(id)}`)
        if (json) out.json({ removed: id })
        else out.line(`${id} is removed.`)
      }),
    )
}

async function printUpstreams({ out }: OperatorContext, upstreams: UpstreamView[]): Promise<void> {
  const { upstreamColumns } = await import('../views.ts')
  out.table(upstreams, upstreamColumns)
}
