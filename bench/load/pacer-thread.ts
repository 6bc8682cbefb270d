import { parentPort, workerData } from 'node:worker_threads'

const { rate } = workerData as { rate: number }
const port = parentPort
if (port === null) throw new Error('pacer-thread.ts runs as a worker thread')
const spacingMs = 1000 / rate
const never = new Int32Array(new SharedArrayBuffer(4))

for (let due = performance.now() + spacingMs; ; due += spacingMs) {
  const wait = due - performance.now()
  if (wait > 0) Atomics.wait(never, 0, 0, wait)
  port.postMessage(0)
}
