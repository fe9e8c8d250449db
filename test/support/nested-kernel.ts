/** The nested kernel of scripts/vm, where system calls take many times as long. */
import { describe, it } from 'vitest';

/** scripts/vm says so in its guests. */
export const IN_NESTED_KERNEL = process.env['UML'] === '1';

/** For what neither the stream nor the datapath changes: in the nested kernel these tests are not there. */
export const elsewhere = {
  describe(name: string, tests: () => void): void {
    if (!IN_NESTED_KERNEL) describe(name, tests);
  },
  it(name: string, test: () => Promise<void>): void {
    if (!IN_NESTED_KERNEL) it(name, test);
  },
};
