/**
 * `arca doctor` where relays are: what it says of attachments that work, of what killed and stopped relays leave, and
 * what `--fix` removes of that, looked at before and after.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Attachment } from '../../src/control/model.js';
import { findProcess } from '../../src/processes.js';
import { type ControlProcess, joinNetwork, makeNetwork, specHere, startControl } from '../support/control.js';
import { doctor, doctorText, expectFinding, expectWell } from '../support/doctor.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const box = useSandbox();
let control: ControlProcess;

beforeEach(async () => {
  // The last of all: what relays that a test has killed left.
  box.current.defer(removeRests);
  control = await startControl(box.current);
});

const ip = (...args: string[]) => box.current.exec('ip', args);
const look = (...args: string[]) => doctor(box.current, args, { runDir: control.runDir });

async function attach(container = 'web'): Promise<Attachment> {
  const { name } = await makeNetwork(box.current, control);
  return (await control.attach(specHere(box.current, container, name))).value;
}

/** Its relay, killed with nobody to start another one: control went before it. */
async function killAll({ relayPid }: Attachment): Promise<void> {
  await control.kill();
  await endRelay(relayPid);
}

async function endRelay(pid: number | null): Promise<void> {
  if (pid === null) throw new Error('there is no relay');
  process.kill(pid, 'SIGKILL');
  await eventually('the end of the relay', async () => ((await findProcess(pid)) === undefined ? true : undefined));
}

async function removeRests(): Promise<void> {
  const { vsctl, runDir } = box.current;
  const marked = ['--bare', '--columns=name', 'find', 'Port', 'external_ids:arca-owner=arca-relay'];
  for (const name of (await vsctl(...marked)).split(/\s+/).filter(Boolean)) await vsctl('del-port', name);
  for (const name of await readdir(runDir)) if (name.endsWith('.ep')) await rm(join(runDir, name));
}

/** Ports of br-int, TAP devices and sockets in the run directory. */
async function traces(): Promise<readonly string[]> {
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
    const { name } = await makeNetwork(box.current, control);
    await joinNetwork(box.current, control, 'web', name);
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
    await attach();
    const before = await traces();
    const { fixes, exitCode } = await look('relays', 'orphaned-ports', 'orphaned-taps', 'stale-sockets', '--fix');
    expect(fixes).toEqual([]);
    expect(exitCode).toBe(0);
    expect(await traces()).toEqual(before);
  });
});

describe('what a relay that was killed leaves', () => {
  it('its port and its socket are told, and --fix removes them, once', async () => {
    const attachment = await attach();
    const { tap, logicalPort } = attachment;
    await killAll(attachment);
    const checks = ['orphaned-ports', 'stale-sockets'];
    const ill = await look(...checks, 'attachments', 'arca-control');
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
        subject: `attachment ${logicalPort}`,
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

    const before = await traces();
    expect(before).toEqual(expect.arrayContaining([`port ${tap}`, `socket ${tap}.sock`]));
    const fixed = await look(...checks, '--fix');
    expect(fixed.fixes.map(({ fix, outcome }) => [fix.kind, outcome]).sort()).toEqual([
      ['remove-port', 'done'],
      ['remove-socket', 'done'],
    ]);
    expectWell(fixed);
    expect(await traces()).toEqual(before.filter((trace) => trace !== `port ${tap}` && trace !== `socket ${tap}.sock`));
    const again = await look(...checks, '--fix');
    expect(again.fixes).toEqual([]);
    expectWell(again);
  });

  it('--fix says in words what it did', async () => {
    const attachment = await attach();
    const { tap } = attachment;
    await killAll(attachment);
    const { stdout } = await doctorText(box.current, ['orphaned-ports', '--fix', '--quiet'], {
      runDir: control.runDir,
    });
    expect(stdout).toContain(`fixed: port ${tap}, which has no device`);
  });

  it('a TAP that somebody made persistent under its name is in its way; --fix removes it, and no held one', async () => {
    const attachment = await attach();
    const { tap } = attachment;
    await killAll(attachment);
    await ip('tuntap', 'add', tap, 'mode', 'tap');
    await ip('tuntap', 'add', 'tapforeign', 'mode', 'tap');
    box.current.defer(async () => {
      for (const name of [tap, 'tapforeign']) await ip('link', 'delete', name).catch(() => {});
    });
    expectFinding(await look('orphaned-taps'), {
      ...{
        id: 'orphaned-taps',
        verdict: 'warning',
        subject: `device ${tap}`,
        evidence: /no process holds/,
        mend: /--fix/,
      },
    });
    const { fixes } = await look('orphaned-taps', '--fix');
    expect(fixes.filter(({ fix }) => fix.kind === 'remove-tap')).toEqual([
      { fix: { kind: 'remove-tap', device: tap }, outcome: 'done', detail: '' },
    ]);
    expect(await traces()).toContain('device tapforeign');
    expect(await traces()).not.toContain(`device ${tap}`);
    expectWell(await look('orphaned-taps'));
  });

  it('another device under its name is told, and stays', async () => {
    const attachment = await attach();
    const { tap } = attachment;
    await killAll(attachment);
    await ip('link', 'add', tap, 'type', 'veth', 'peer', 'name', 'doctorveth');
    box.current.defer(async () => {
      await ip('link', 'delete', tap);
    });
    const answer = await look('orphaned-taps', '--fix');
    expectFinding(answer, {
      id: 'orphaned-taps',
      verdict: 'problem',
      subject: `device ${tap}`,
      evidence: /no TAP \(veth\)/,
    });
    expect(await traces()).toContain(`device ${tap}`);
  });
});

describe('relays that live', () => {
  it('one that is stopped', async () => {
    const { relayPid } = await attach();
    const pid = relayPid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      expectFinding(await look('relays', '--timeout', String(scaled(2_000) / 1000)), {
        ...{
          id: 'relays',
          verdict: 'problem',
          subject: `relay, process ${pid}`,
          evidence: /is stopped/,
          mend: new RegExp(`^kill -CONT ${pid}$`),
        },
      });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expectWell(await look('relays'));
  });

  it('one that no logical port wants', async () => {
    const { logicalPort, relayPid, tap } = await attach();
    await control.kill();
    await box.current.nbctl('lsp-del', logicalPort);
    expectFinding(await look('relays'), {
      ...{
        id: 'relays',
        verdict: 'warning',
        subject: `relay of ${tap}`,
        evidence: /no logical port of ours wants it/,
        mend: new RegExp(`kill ${relayPid}`),
      },
    });
  });

  it('one whose port has a tag of another network', async () => {
    const { tap, network } = await attach();
    await control.kill();
    await box.current.nbctl('set', 'Logical_Switch', network, 'external_ids:vlan_tag=3999');
    expectFinding(await look('tags'), {
      ...{
        id: 'tags',
        verdict: 'problem',
        subject: `port ${tap}`,
        evidence: /and its network .* has 3999/,
        mend: /reconcile/,
      },
    });
  });

  it('an MTU that somebody changed', async () => {
    const { tap } = await attach();
    expectWell(await look('mtu'));
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

  it('a TAP that shows the host: every setting that a relay makes, undone', async () => {
    const { tap } = await attach();
    expectWell(await look('exposure'));
    const sysctl = (key: string, value: number) =>
      box.current.exec('sysctl', ['-qw', `net.${key.replace('TAP', tap)}=${value}`]);
    await sysctl('ipv4.conf.TAP.rp_filter', 0);
    await sysctl('ipv6.conf.TAP.disable_ipv6', 0);
    await ip('link', 'set', 'dev', tap, 'arp', 'on');
    await ip('address', 'add', '10.88.0.1/24', 'dev', tap);
    const answer = await look('exposure');
    const evidence = answer.findings.map((finding) => finding.evidence);
    expect(evidence).toEqual([
      expect.stringContaining('rp_filter is 0'),
      'IPv6 is on',
      'the host answers ARP on it',
      expect.stringContaining('10.88.0.1'),
    ]);
    const verdict = testDatapath() === 'netdev' ? 'problem' : 'note';
    expect(answer.findings.map((finding) => finding.verdict)).toEqual([verdict, verdict, verdict, verdict]);
    for (const { mend } of answer.findings) await box.current.exec('sh', ['-c', mend ?? 'false']);
    expectWell(await look('exposure'));
  });
});

describe('arca-control', () => {
  it('one that hangs, and one that never was', async () => {
    process.kill(control.pid, 'SIGSTOP');
    try {
      expectFinding(await look('arca-control', '--timeout', String(scaled(2_000) / 1000)), {
        ...{ id: 'arca-control', verdict: 'problem', subject: 'arca-control', evidence: /^hangs/ },
      });
    } finally {
      process.kill(control.pid, 'SIGCONT');
    }
    expectWell(await look('arca-control'));
    const none = await doctor(box.current, ['arca-control']);
    expectFinding(none, { id: 'arca-control', verdict: 'note', subject: 'arca-control', evidence: /none runs/ });
  });

  it('tells what is ill by its own account', async () => {
    const pid = (await box.current.daemons())['ovn-northd'] ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      const answer = await look('arca-control', '--timeout', String(scaled(20_000) / 1000));
      expectFinding(answer, { id: 'arca-control', verdict: 'problem', subject: 'arca-control: northd', evidence: /./ });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
});
