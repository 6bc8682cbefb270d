/**
 * The chat of docs/getting-started.md: all who are connected hear what each says, whichever node they are on.
 *
 *   npm run example:chat -- chat-1
 */
import { createNode } from 'evenkeel/sdk'

const gateway = process.env.GATEWAY ?? 'ws://127.0.0.1:8081'
const node = createNode({ id: process.argv[2] ?? 'chat-1', gateways: [gateway] })

node.serve<{ said: number }>({
  open(session) {
    session.join('room:lobby')
  },
  message(session, data) {
    const said = (session.state?.said ?? 0) + 1
    session.state = { said }
    node.publish('room:lobby', `${session.id.slice(0, 4)} (${said}, by way of ${node.id}): ${data}`)
  },
})

await node.start()
console.log(`node ${node.id} is linked`)
