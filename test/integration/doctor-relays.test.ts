/** `arca doctor` where relays are: what it says of attachments that work, and of what is done to relays that live. */
import { describe, expect, it } from 'vitest';
import { createContainer } from '../support/container.js';
import {
  type ControlProcess,
  connectAddress,
  type Joined,
  joinNetwork,
  makeNetwork,
  startControl,
} from '../support/control.js';
import { attachAlone, doctor, doctorText, expectFinding, expectWell, traces } from '../support/doctor.js';
import { elsewhere } from '../support/nested-kernel.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { scaled } from '../support/time.js';

/** For tests that kill nothing. */
let shared: ControlProcess;
let web: Joined;

const box = useSandbox(async (sandbox) => {
  shared = await startControl(sandbox);
  const { name } = await makeNetwork(sandbox, shared);
  web = await joinNetwork(sandbox, shared, 'web', name);
  return undefined;
});

const ip = (...args: string[]) => box.current.exec('ip', args);
const look = (...args: string[]) => doctor(box.current, args, { runDir: shared.runDir });

describe('attachments that work', () => {
  it('nothing but ok and notes, and exit code 0', async () => {
    const ids = JSON.parse((await doctorText(box.current, ['--list', '--json'])).stdout) as { id: string }[];
    // Where the databases of a test are is not where those of a machine belong.
    const all = ids.map(({ id }) => id).filter((id) => id !== 'persistence');
    expect(all.length).toBeGreaterThan(20);
    const answer = await look(...all);
    expectWell(answer);
    expect(answer.findings.find(({ id }) => id === 'arca-control')?.evidence).toMatch(/every part of it is well/);
    expect(answer.findings.find(({ id }) => id === 'attachments')?.evidence).toMatch(/^1 here/);
  });

  it('--fix has nothing to do, and does nothing', async () => {
    const before = await traces(box.current, shared);
    const { fixes, exitCode } = await look('relays', 'orphaned-ports', 'orphaned-taps', 'stale-sockets', '--fix');
    expect(fixes).toEqual([]);
    expect(exitCode).toBe(0);
    expect(await traces(box.current, shared)).toEqual(before);
  });
});

elsewhere.describe('relays that live', () => {
  it('one that is stopped', async () => {
    const alone = await attachAlone(box.current, [web.attachment.tap]);
    // It would put another one in its place.
    await alone.control.kill();
    const pid = alone.attachment.relayPid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      expectFinding(await alone.look('relays', '--timeout', String(scaled(2_000) / 1000)), {
        ...{ id: 'relays', verdict: 'problem', subject: `relay, process ${pid}`, evidence: /is stopped/ },
        mend: new RegExp(`^kill -CONT ${pid}$`),
      });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expectWell(await alone.look('relays'));
  });

  it('one with the tag of another network, and one that no logical port wants', async () => {
    const alone = await attachAlone(box.current, [web.attachment.tap]);
    const { control, attachment, tap } = alone;
    await control.kill();
    await box.current.nbctl('set', 'Logical_Switch', attachment.network, 'external_ids:vlan_tag=3999');
    expectFinding(await alone.look('tags'), {
      ...{
        id: 'tags',
        verdict: 'problem',
        subject: `port ${tap}`,
        evidence: /and its network .* has 3999/,
        mend: /reconcile/,
      },
    });
    await box.current.nbctl('lsp-del', attachment.logicalPort);
    expectFinding(await alone.look('relays'), {
      ...{ id: 'relays', verdict: 'warning', subject: `relay of ${tap}`, evidence: /no logical port of ours wants it/ },
      mend: new RegExp(`kill ${attachment.relayPid}`),
    });
  });

  it('an MTU that somebody changed, on the TAP', async () => {
    const { tap } = web.attachment;
    await ip('link', 'set', 'dev', tap, 'mtu', '1280');
    const { mend } = expectFinding(await look('mtu'), {
      ...{
        id: 'mtu',
        verdict: 'problem',
        subject: `relay of ${tap}`,
        evidence: /MTU 1280, and the container was told 1500/,
      },
    });
    await box.current.exec('sh', ['-c', mend ?? 'false']);
    expectWell(await look('mtu'));
  });

  it('a container with another MTU than its relay', async () => {
    const alone = await attachAlone(box.current, [web.attachment.tap]);
    const inside = await createContainer(box.current, 'mtu');
    inside.startTap(connectAddress(alone.attachment), ['--mtu', '1400']);
    await inside.waitUntilUp(15_000);
    expectFinding(await alone.look('mtu'), {
      ...{
        id: 'mtu',
        verdict: 'warning',
        subject: `relay of ${alone.tap}`,
        evidence: /interface has MTU 1400/,
        mend: /mtu 1500/,
      },
    });
  });

  it('a TAP that shows the host: every setting that a relay makes, undone', async () => {
    const { tap } = web.attachment;
    expectWell(await look('exposure'));
    const sysctl = (key: string, value: number) =>
      box.current.exec('sysctl', ['-qw', `net.${key.replace('TAP', tap)}=${value}`]);
    await sysctl('ipv4.conf.TAP.rp_filter', 0);
    await sysctl('ipv6.conf.TAP.disable_ipv6', 0);
    await ip('link', 'set', 'dev', tap, 'arp', 'on');
    await ip('address', 'add', '10.88.0.1/24', 'dev', tap);
    const answer = await look('exposure');
    expect(answer.findings.map((finding) => finding.evidence)).toEqual([
      expect.stringContaining('rp_filter is 0'),
      'IPv6 is on',
      'the host answers ARP on it',
      expect.stringContaining('10.88.0.1'),
    ]);
    const verdict = testDatapath() === 'netdev' ? 'problem' : 'note';
    expect(answer.findings.map((finding) => finding.verdict)).toEqual([verdict, verdict, verdict, verdict]);
    for (const { mend } of answer.findings) await box.current.exec('sh', ['-c', mend ?? 'false']);
    const { findings } = await look('exposure');
    expect(findings).toMatchObject([{ verdict: 'ok' }]);
  });
});

elsewhere.describe('arca-control', () => {
  it('one that hangs, one that never was, and one that says what is ill', async () => {
    process.kill(shared.pid, 'SIGSTOP');
    try {
      expectFinding(await look('arca-control', '--timeout', String(scaled(2_000) / 1000)), {
        ...{ id: 'arca-control', verdict: 'problem', subject: 'arca-control', evidence: /^hangs/ },
      });
    } finally {
      process.kill(shared.pid, 'SIGCONT');
    }
    const none = await doctor(box.current, ['arca-control']);
    expectFinding(none, { id: 'arca-control', verdict: 'note', subject: 'arca-control', evidence: /none runs/ });

    const northd = (await box.current.daemons())['ovn-northd'] ?? 0;
    process.kill(northd, 'SIGSTOP');
    try {
      const answer = await look('arca-control', '--timeout', String(scaled(20_000) / 1000));
      expectFinding(answer, { id: 'arca-control', verdict: 'problem', subject: 'arca-control: northd', evidence: /./ });
    } finally {
      process.kill(northd, 'SIGCONT');
    }
    expectWell(await look('arca-control'));
  });
});
