/**
 * Loaded before a child's own module (`--import`), so that examples stay clean for copying. The channel to the demo
 * closes even when the demo is killed.
 */
process.on('disconnect', () => process.exit(0))
// The terminal sends Ctrl-C to every process; the demo alone decides what it means.
process.on('SIGINT', () => {})
