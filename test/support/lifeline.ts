/** Preloaded into children with a message channel: they end with the test's process, even when that cleans up nothing. */
process.on('disconnect', () => process.exit(1))
