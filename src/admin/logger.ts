import type { BaseLogger } from 'pino'

/** What the admin surface writes to; any pino logger fits. */
export type AdminLogger = Pick<BaseLogger, 'debug' | 'info' | 'warn' | 'error'>
