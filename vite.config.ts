import { defineConfig } from 'vite'

/** The dashboard, built into what the package carries. */
export default defineConfig({
  root: 'client/dashboard',
  base: './',
  logLevel: 'warn',
  build: {
    outDir: '../../dist/dashboard',
    emptyOutDir: true,
    // Under its content security policy nothing may come from a data: URL but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
})
