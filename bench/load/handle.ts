import { type Child, failure, firstMessage, startNodeScript, stopChild } from '../processes.ts'
import type { CommandName, Commands, ReplyMessage } from './commands.ts'

interface Pending {
  resolve(output: unknown): void
  reject(error: Error): void
}

/** The benchmark's side of the load process. */
export class Load {
  #child: Child
  #pending = new Map<number, Pending>()
  #lastId = 0

  static async start(): Promise<Load> {
    const child = startNodeScript('load', new URL('./main.ts', import.meta.url))
    await firstMessage(child)
    return new Load(child)
  }

  private constructor(child: Child) {
    this.#child = child
    child.process.on('message', (message) => this.#settle(message as ReplyMessage))
    child.process.once('exit', (code) => {
      for (const { reject } of this.#pending.values()) reject(failure(child, `ended with code ${code}`))
    })
  }

  call<Name extends CommandName>(
    name: Name,
    input: Commands[Name]['input'],
  ): Promise<Commands[Name]['output']> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      this.#pending.set(id, { resolve: (output) => resolve(output as Commands[Name]['output']), reject })
      this.#child.process.send({ id, name, input })
    })
  }

  stop(): Promise<void> {
    return stopChild(this.#child)
  }

  #settle(message: ReplyMessage): void {
    const pending = this.#pending.get(message.id)
    this.#pending.delete(message.id)
    if ('error' in message) pending?.reject(new Error(`load: ${message.error}`))
    else pending?.resolve(message.output)
  }
}
