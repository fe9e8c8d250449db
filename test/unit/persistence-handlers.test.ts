import { expect, it } from 'vitest';
import { judgeHandlers } from '../../src/persistence/handlers.js';

it('a vswitchd without handler threads is a problem for bridges of the kernel datapath', () => {
  expect(judgeHandlers(7, ['ovs-vswitchd\n', 'handler2\n', 'revalidator1\n'], ['br-int'])).toMatchObject({
    verdict: 'ok',
  });
  expect(judgeHandlers(7, ['ovs-vswitchd\n', 'urcu3\n'], ['br-int', 'vmbr0'])).toMatchObject({
    verdict: 'problem',
    evidence: expect.stringContaining('br-int, vmbr0 forward nothing'),
    mend: expect.stringContaining('systemctl restart ovs-vswitchd'),
  });
});
