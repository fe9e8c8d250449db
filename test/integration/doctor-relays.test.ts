/**
 * `arca doctor` where relays are: what it says of attachments that work, of what killed and stopped relays leave, and
 * what `--fix` removes of that, looked at before and after.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Attachment } from '../../src/control/model.js';
import { findProcess } from '../../src/processes.js';
import { createContainer } from '../support/container.js';
import {
  type ControlProcess,
  connectAddress,
  type Joined,
  joinNetwork,
  makeNetwork,
  specHere,
  startControl,
} from '../support/control.js';
import { type DoctorAnswer, doctor, doctorText, expectFinding, expectWell } from '../support/doctor.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

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

interface Attached {
  readonly control: ControlProcess;
  readonly attachment: Attachment;
  readonly tap: string;
  readonly look: (...args: string[]) => Promise<DoctorAnswer>;
}

/** Of an arca-control of its own, for a test that kills it. */
async function attachAlone(): Promise<Attached> {
  // The last of all: what relays that a test has killed left.
  box.current.defer(removeRests);
  const control = await startControl(box.current);
  const { name } = await makeNetwork(box.current, control);
  const attachment = (await control.attach(specHere(box.current, 'api', name))).value;
  const lookHere = (...args: string[]) => doctor(box.current, args, { runDir: control.runDir });
  return { control, attachment, tap: attachment.tap, look: lookHere };
}

/** Its relay is killed with nobody to start another one: control went before it. */
async function killAll({ control, attachment }: Attached): Promise<void> {
  const pid = attachment.relayPid;
  if (pid === null) throw new Error('there is no relay');
  await control.kill();
  process.kill(pid, 'SIGKILL');
  await eventually('the end of the relay', async () => ((await findProcess(pid)) === undefined ? true : undefined));
}

async function removeRests(): Promise<void> {
  const { vsctl, runDir } = box.current;
  const marked = ['--bare', '--columns=name', 'find', 'Port', 'external_ids:arca-owner=arca-relay'];
  const names = (await vsctl(...marked)).split(/\s+/).filter((name) => name !== '' && name !== web.attachment.tap);
  for (const name of names) await vsctl('del-port', name);
  for (const name of await readdir(runDir)) if (/^api-.*\.ep$/.test(name)) await rm(join(runDir, name));
}

/** Ports of br-int, TAP devices and sockets in the run directory. */
async function traces(control: ControlProcess): Promise<readonly string[]> {
  const ports = (await box.current.vsctl('list-ports', 'br-int')).split('\n').filter(Boolean);
  const links = JSON.parse((await ip('-json', 'link')).stdout) as { ifname: string }[];
  const sockets = await readdir(join(control.runDir, 'relays'));
  return [
    ...ports.map((name) => `port ${name}`),
    ...links.map(({ ifname }) => `device ${ifname}`),
    ...sockets.filter((name) => name.endsWith('.sock')).map((name) => `socket ${name}`),
  ].sort();
}

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
    const before = await traces(shared);
    const { fixes, exitCode } = await look('relays', 'orphaned-ports', 'orphaned-taps', 'stale-sockets', '--fix');
    expect(fixes).toEqual([]);
    expect(exitCode).toBe(0);
    expect(await traces(shared)).toEqual(before);
  });
});

describe('what a relay that was killed leaves', () => {
  it('its port and its socket are told, and --fix removes them, once', async () => {
    const alone = await attachAlone();
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

    const before = await traces(control);
    expect((await alone.look('tags', '--fix')).fixes).toEqual([]);
    expect(before).toEqual(expect.arrayContaining([`port ${tap}`, `socket ${tap}.sock`]));
    const fixed = await alone.look(...checks, '--fix');
    expect(fixed.fixes.map(({ fix, outcome }) => [fix.kind, outcome]).sort()).toEqual([
      ['remove-port', 'done'],
      ['remove-socket', 'done'],
    ]);
    expectWell(fixed);
    const gone = [`port ${tap}`, `socket ${tap}.sock`];
    expect(await traces(control)).toEqual(before.filter((trace) => !gone.includes(trace)));
    const again = await alone.look(...checks, '--fix');
    expect(again.fixes).toEqual([]);
    expectWell(again);
  });

  it('a TAP that somebody made persistent under its name is in its way; --fix removes it, and says so', async () => {
    const alone = await attachAlone();
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
    const after = await traces(control);
    expect(after).toEqual(expect.arrayContaining(['device tapforeign', `device ${web.attachment.tap}`]));
    expect(after).not.toContain(`device ${tap}`);
  });

  it('another device under its name is told, and stays', async () => {
    const alone = await attachAlone();
    const { tap } = alone;
    await killAll(alone);
    await ip('link', 'add', tap, 'type', 'veth', 'peer', 'name', 'doctorveth');
    box.current.defer(async () => {
      await ip('link', 'delete', tap);
    });
    const answer = await alone.look('orphaned-taps', '--fix');
    expectFinding(answer, {
      id: 'orphaned-taps',
      verdict: 'problem',
      subject: `device ${tap}`,
      evidence: /no TAP \(veth\)/,
    });
    expect(await traces(alone.control)).toContain(`device ${tap}`);
  });
});

describe('relays that live', () => {
  it('one that is stopped', async () => {
    const alone = await attachAlone();
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
    const alone = await attachAlone();
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
    const alone = await attachAlone();
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

describe('arca-control', () => {
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
