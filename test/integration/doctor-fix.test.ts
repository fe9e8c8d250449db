/**
 * What relays that were killed leave, and what `arca doctor --fix` removes of that, looked at before and after. In a
 * sandbox of its own: an arca-control that lives would sweep the ports, too.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Attached, attachAlone, doctorText, expectFinding, expectWell, traces } from '../support/doctor.js';
import { useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const box = useSandbox();

const ip = (...args: string[]) => box.current.exec('ip', args);

/** Its relay is killed with nobody to start another one: control went before it. */
async function killAll({ control, attachment, tap }: Attached): Promise<void> {
  const pid = attachment.relayPid;
  if (pid === null) throw new Error('there is no relay');
  await control.kill();
  process.kill(pid, 'SIGKILL');
  // The kernel removes the device after the process is none any more.
  await eventually('the end of its TAP', async () =>
    (await traces(box.current, control)).includes(`device ${tap}`) ? undefined : true,
  );
}

describe('what a relay that was killed leaves', () => {
  it(
    'its port and its socket are told, and --fix removes them, once',
    async () => {
      const alone = await attachAlone(box.current);
      const { control, tap } = alone;
      await killAll(alone);
      const checks = ['orphaned-ports', 'stale-sockets'];
      const ill = await alone.look(...checks, 'attachments', 'arca-control');
      expectFinding(ill, {
        id: 'orphaned-ports',
        verdict: 'warning',
        subject: `port ${tap}`,
        evidence: /was killed/,
        mend: /--fix/,
      });
      expectFinding(ill, {
        ...{
          id: 'stale-sockets',
          verdict: 'note',
          subject: join(control.runDir, 'relays', `${tap}.sock`),
          evidence: /nobody listens/,
        },
      });
      expectFinding(ill, {
        ...{
          id: 'attachments',
          verdict: 'problem',
          subject: `attachment ${alone.attachment.logicalPort}`,
          evidence: /no relay/,
        },
      });
      expectFinding(ill, {
        id: 'arca-control',
        verdict: 'warning',
        subject: 'arca-control',
        evidence: /dead/,
        mend: /start/,
      });

      const before = await traces(box.current, control);
      expect(before).toEqual(expect.arrayContaining([`port ${tap}`, `socket ${tap}.sock`]));
      const fixed = await alone.look(...checks, '--fix');
      expect(fixed.fixes.map(({ fix, outcome }) => [fix.kind, outcome]).sort()).toEqual([
        ['remove-port', 'done'],
        ['remove-socket', 'done'],
      ]);
      expectWell(fixed);
      const gone = [`port ${tap}`, `socket ${tap}.sock`];
      expect(await traces(box.current, control)).toEqual(before.filter((trace) => !gone.includes(trace)));
      const again = await alone.look(...checks, '--fix');
      expect(again.fixes).toEqual([]);
      expectWell(again);
    },
    scaled(60_000),
  );

  it(
    'a TAP that somebody made persistent under its name is in its way; --fix removes it, and says so',
    async () => {
      const alone = await attachAlone(box.current);
      const { control, tap } = alone;
      await killAll(alone);
      for (const name of [tap, 'tapforeign']) {
        await ip('tuntap', 'add', name, 'mode', 'tap');
        box.current.defer(async () => {
          await ip('link', 'delete', name).catch(() => {});
        });
      }
      expectFinding(await alone.look('orphaned-taps'), {
        ...{
          id: 'orphaned-taps',
          verdict: 'warning',
          subject: `device ${tap}`,
          evidence: /no process holds/,
          mend: /--fix/,
        },
      });
      const args = ['orphaned-taps', '--fix', '--quiet'];
      const { stdout, exitCode } = await doctorText(box.current, args, { runDir: control.runDir });
      expect(stdout).toContain(`fixed: TAP device ${tap}, which nobody holds`);
      expect(exitCode).toBe(0);
      const after = await traces(box.current, control);
      expect(after).toEqual(expect.arrayContaining(['device tapforeign', 'device br-int']));
      expect(after).not.toContain(`device ${tap}`);
    },
    scaled(60_000),
  );

  it('another device under its name is told, and stays', async () => {
    const alone = await attachAlone(box.current);
    const { tap } = alone;
    await killAll(alone);
    await ip('link', 'add', tap, 'type', 'veth', 'peer', 'name', 'doctorveth');
    box.current.defer(async () => {
      await ip('link', 'delete', tap);
    });
    const answer = await alone.look('orphaned-taps', '--fix');
    // Nor is anything mended that no chosen check tells.
    expect(answer.fixes).toEqual([]);
    expect(await traces(box.current, alone.control)).toContain(`socket ${tap}.sock`);
    expectFinding(answer, {
      id: 'orphaned-taps',
      verdict: 'problem',
      subject: `device ${tap}`,
      evidence: /no TAP \(veth\)/,
    });
    expect(await traces(box.current, alone.control)).toContain(`device ${tap}`);
  });
});
