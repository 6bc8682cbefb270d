interface Locks {
  request(name: string, options: { signal?: AbortSignal }, held: () => Promise<unknown>): Promise<unknown>
}

/** Where the browser lets tabs agree on who is first; undefined: it does not. */
export function locks(): Locks | undefined {
  return (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks
}
