import { expect, it } from 'vitest';
import { judgeStart } from '../../src/persistence/vswitchd-start.js';
import { parseProcessStat } from '../../src/processes.js';

it('a vswitchd that was started too soon after the boot is a problem for bridges of the kernel datapath', () => {
  expect(judgeStart(7, 10.5, '3.1.0', ['br-int'])).toMatchObject({ verdict: 'ok' });
  expect(judgeStart(7, 5.45, '3.1.0', ['br-int', 'vmbr0'])).toMatchObject({
    verdict: 'problem',
    evidence: expect.stringMatching(/5\.5 s after the boot.* br-int, vmbr0 forwards nothing/),
    mend: expect.stringContaining('systemctl restart ovs-vswitchd'),
  });
  expect(judgeStart(7, 5, '3.5.0', ['br-int'])).toMatchObject({ verdict: 'warning' });
});

it('the time of a start stands behind a name that may hold blanks and brackets', () => {
  const fields = Array.from({ length: 30 }, (_, index) => String(index + 3));
  fields[19] = '3819';
  expect(parseProcessStat(`738 (a) (b c)) ${fields.join(' ')}`)?.startSeconds).toBe(38.19);
  expect(parseProcessStat('')).toBeUndefined();
});
