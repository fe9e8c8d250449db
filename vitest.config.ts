import { defineConfig } from 'vitest/config';

/** As test/support/time.ts has it: how much slower than usual this machine is. */
const slowdown = Math.max(1, Number(process.env['ARCA_TEST_SLOWDOWN'] ?? 1) || 1);

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          // For what hangs. Other tests, and a compiler, may have the processors (scripts/test).
          testTimeout: 30_000 * slowdown,
          hookTimeout: 30_000 * slowdown,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          globalSetup: ['test/support/global-setup.ts'],
          pool: 'forks',
          // One file after another: they watch the clock, and each has an OVS of its own.
          fileParallelism: false,
          testTimeout: 30_000 * slowdown,
          hookTimeout: 60_000 * slowdown,
        },
      },
    ],
  },
});
