/**
 * `arca doctor` on a system that is broken for real, one thing at a time. Each test sees it well before or after: a
 * check that always complains would not pass.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run } from '../../src/exec.js';
import type { DaemonName } from '../../src/sandbox/daemons.js';
import { doctor, doctorText, expectFinding, expectWell } from '../support/doctor.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const box = useSandbox();

const ip = (...args: string[]) => box.current.exec('ip', args);

async function sbctl(...args: string[]): Promise<void> {
  await run('ovn-sbctl', args, { timeoutMs: scaled(5_000), env: box.current.fullEnv });
}

async function pidOf(name: DaemonName): Promise<number> {
  const pid = (await box.current.daemons())[name];
  if (pid === undefined) throw new Error(`${name} does not run`);
  return pid;
}

/** A device that forwards nothing itself, behind a port of OVS that is not ours; gone after the test. */
async function addForeignPort(name: string): Promise<void> {
  await ip('tuntap', 'add', name, 'mode', 'tap');
  box.current.defer(async () => {
    await box.current.vsctl('--if-exists', 'del-port', name);
    await ip('link', 'delete', name).catch(() => {});
  });
  await ip('link', 'set', name, 'up');
  await box.current.vsctl('add-port', 'br-int', name, 'tag=7');
}

/** In a mount namespace of its own. */
const mounted = (...commands: string[]): string[] => [
  'unshare',
  '--mount',
  'sh',
  '-c',
  `${commands.join(' && ')} && exec "$@"`,
  'sh',
];

describe('the host', () => {
  it('/dev/net/tun: missing, something else, and well', async () => {
    const subject = '/dev/net/tun';
    const looking = (...commands: string[]) => doctor(box.current, ['tun-device'], { wrapper: mounted(...commands) });
    expectFinding(await looking('mount -t tmpfs none /dev/net'), {
      ...{
        id: 'tun-device',
        verdict: 'problem',
        subject,
        evidence: /^is missing$/,
        mend: /mknod \/dev\/net\/tun c 10 200/,
      },
    });
    expectFinding(await looking('mount --bind /etc/hostname /dev/net/tun'), {
      ...{ id: 'tun-device', verdict: 'problem', subject, evidence: /no character device/, mend: /mknod/ },
    });
    expectFinding(await looking('mount --bind /dev/null /dev/net/tun'), {
      ...{ id: 'tun-device', verdict: 'problem', subject, evidence: /device 1:3, not device 10:200/ },
    });
    expectWell(await looking('true'));
  });

  it('vsock: a problem for who uses it, and else a note', async () => {
    const wrapper = mounted('mount --bind /dev/null /dev/vsock || true', 'mount -t tmpfs none /sys/module');
    const without = await doctor(box.current, ['vsock'], { wrapper });
    expectFinding(without, {
      id: 'vsock',
      verdict: 'note',
      subject: '/dev/vsock',
      evidence: /no attachment here uses it/,
    });
    await addForeignPort('tapv');
    await box.current.vsctl(
      'set',
      'Port',
      'tapv',
      'external_ids:arca-owner=arca-relay',
      'external_ids:arca-endpoint="vsock:5000"',
    );
    expectFinding(await doctor(box.current, ['vsock'], { wrapper }), {
      ...{
        id: 'vsock',
        verdict: 'problem',
        subject: '/dev/vsock',
        evidence: /attachments here use it/,
        mend: /modprobe/,
      },
    });
  });

  it('capabilities that this process lacks', async () => {
    const wrapper = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'];
    expectFinding(await doctor(box.current, ['capabilities'], { wrapper }), {
      ...{
        id: 'capabilities',
        verdict: 'problem',
        subject: 'this process',
        evidence: /CAP_NET_ADMIN/,
        mend: /\broot\b/,
      },
    });
    const lacksBind = ['setpriv', '--bounding-set=-net_bind_service', '--inh-caps=-net_bind_service'];
    expectFinding(await doctor(box.current, ['capabilities'], { wrapper: lacksBind }), {
      ...{ id: 'capabilities', verdict: 'note', subject: 'this process', evidence: /CAP_NET_BIND_SERVICE/ },
    });
    expectWell(await doctor(box.current, ['capabilities']));
  });

  it('a machine where nothing is installed: says what to install, and ends', async () => {
    const empty = join(box.current.runDir, 'ovs-empty');
    await mkdir(empty, { recursive: true });
    const env = {
      OVS_RUNDIR: empty,
      OVN_RUNDIR: empty,
      OVN_NB_DB: `unix:${empty}/nb`,
      OVN_SB_DB: `unix:${empty}/sb`,
    };
    const answer = await doctor(box.current, [], { env, wrapper: ['/usr/bin/env', `PATH=${empty}`] });
    for (const [subject, mend] of [
      ['ovs-vsctl', /apt-get install openvswitch-switch/],
      ['ip', /apt-get install iproute2/],
    ] as const) {
      expectFinding(answer, { id: 'programs', verdict: 'problem', subject, evidence: /PATH/, mend });
    }
    for (const name of ['ovsdb-server', 'ovs-vswitchd', 'ovn-northd']) {
      expectFinding(answer, {
        id: name,
        verdict: 'problem',
        subject: name,
        evidence: /^does not run/,
        mend: /apt-get install/,
      });
    }
    expect(answer.findings.filter(({ id, verdict }) => id === 'dead-ports' && verdict !== 'unknown')).toEqual([]);
    expect(answer.exitCode).toBe(117);
  });

  it('a vswitchd that was upgraded and not started anew', async () => {
    const folder = join(box.current.runDir, 'ovs-newer');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'ovs-vswitchd'), '#!/bin/sh\necho "ovs-vswitchd (Open vSwitch) 9.8.7"\n');
    await chmod(join(folder, 'ovs-vswitchd'), 0o755);
    const env = { PATH: `${folder}:${process.env['PATH']}` };
    expectFinding(await doctor(box.current, ['versions'], { env }), {
      ...{
        id: 'versions',
        verdict: 'warning',
        subject: 'ovs-vswitchd',
        evidence: /9\.8\.7 is installed/,
        mend: /restart/,
      },
    });
    expectWell(await doctor(box.current, ['versions']));
  });
});

describe('daemons', () => {
  const SUBJECTS: readonly (readonly [DaemonName, string])[] = [
    ['ovsdb-server', 'ovsdb-server'],
    ['ovs-vswitchd', 'ovs-vswitchd'],
    ['ovn-northbound', 'northbound database'],
    ['ovn-southbound', 'southbound database'],
    ['ovn-northd', 'ovn-northd'],
  ];
  const idOf = (subject: string): string => subject.replaceAll(' ', '-');
  const look = () =>
    doctor(
      box.current,
      SUBJECTS.map(([, subject]) => idOf(subject)),
    );

  it('stopped is told apart from dead, and everything ends in its time', async () => {
    const { current } = box;
    expectWell(await look());
    const pids = new Map(await Promise.all(SUBJECTS.map(async ([name]) => [name, await pidOf(name)] as const)));
    for (const pid of pids.values()) process.kill(pid, 'SIGSTOP');
    const startedAt = performance.now();
    try {
      const answer = await doctor(current, ['--timeout', String(scaled(2_000) / 1000)]);
      // The start of Node on a busy machine is no part of --timeout.
      expect(performance.now() - startedAt).toBeLessThan(scaled(8_000));
      for (const [name, subject] of SUBJECTS) {
        const evidence = new RegExp(`^hangs: process ${pids.get(name)} is stopped`);
        const mend = new RegExp(`^kill -CONT ${pids.get(name)}$`);
        expectFinding(answer, { id: idOf(subject), verdict: 'problem', subject, evidence, mend });
      }
      expect(answer.findings.filter(({ id }) => id === 'tags')).toMatchObject([{ verdict: 'unknown' }]);
    } finally {
      for (const pid of pids.values()) process.kill(pid, 'SIGCONT');
    }
    expectWell(await look());

    await Promise.all(SUBJECTS.map(([name]) => current.kill(name)));
    try {
      const answer = await look();
      for (const [, subject] of SUBJECTS) {
        expectFinding(answer, {
          id: idOf(subject),
          verdict: 'problem',
          subject,
          evidence: /^has died/,
          mend: /systemctl start/,
        });
      }
    } finally {
      // Databases first: the others want them.
      for (const name of ['ovsdb-server', 'ovn-northbound', 'ovn-southbound'] as const) await current.start(name);
      for (const name of ['ovs-vswitchd', 'ovn-northd'] as const) await current.start(name);
    }
    await eventually('all of them well', async () => ((await look()).exitCode === 0 ? true : undefined), 15_000);
  });
});

describe('the database of OVS', () => {
  it('a file that everybody may change', async () => {
    const file = join(box.current.runDir, 'conf.db');
    const id = 'database-permissions';
    const permissions = async () =>
      (await doctor(box.current, ['persistence'])).findings.find((finding) => finding.id === id);
    expect(await permissions()).toMatchObject({ verdict: 'ok', subject: file });
    await chmod(file, 0o666);
    expect(await permissions()).toMatchObject({ verdict: 'problem', subject: file, mend: `chmod 640 ${file}` });
    await chmod(file, 0o640);
    expect(await permissions()).toMatchObject({ verdict: 'ok' });
  });
});

describe('the bridge', () => {
  it('an ovn-controller that takes br-int is a black hole', async () => {
    const { current } = box;
    const ovnBridge = await current.vsctl('get', 'Open_vSwitch', '.', 'external_ids:ovn-bridge');
    current.defer(async () => {
      await current.kill('ovn-controller', 'SIGTERM');
      await current.vsctl('set', 'Open_vSwitch', '.', `external_ids:ovn-bridge=${ovnBridge}`);
      await current.vsctl('del-fail-mode', 'br-int');
      await sbctl('--if-exists', 'chassis-del', 'arca-control-plane');
    });
    expectWell(await doctor(current, ['black-hole']));
    await current.vsctl('remove', 'Open_vSwitch', '.', 'external_ids', 'ovn-bridge');
    expectFinding(await doctor(current, ['black-hole']), {
      ...{
        id: 'black-hole',
        verdict: 'note',
        subject: 'bridge br-int',
        evidence: /starts here takes this bridge/,
        mend: /ovn-bridge=br-ovn/,
      },
    });
    await current.start('ovn-controller');
    await eventually('fail_mode secure', async () =>
      (await current.vsctl('get', 'Bridge', 'br-int', 'fail_mode')) === 'secure' ? true : undefined,
    );
    expectFinding(await doctor(current, ['black-hole']), {
      ...{
        id: 'black-hole',
        verdict: 'problem',
        subject: 'bridge br-int',
        evidence: /would forward nothing/,
        mend: /ovn-bridge=br-ovn/,
      },
    });
  });

  it('a bridge that is not there', async () => {
    expectFinding(await doctor(box.current, ['black-hole', '--bridge', 'br-nope']), {
      ...{
        id: 'black-hole',
        verdict: 'problem',
        subject: 'bridge br-nope',
        evidence: /no such bridge/,
        mend: /add-br br-nope/,
      },
    });
  });

  it.runIf(testDatapath() === 'netdev')('userspace TSO that is set, and not in effect before a restart', async () => {
    const { current } = box;
    const restart = async (): Promise<void> => {
      await current.restart('ovs-vswitchd');
    };
    current.defer(async () => {
      await current.vsctl('remove', 'Open_vSwitch', '.', 'other_config', 'userspace-tso-enable');
      await restart();
    });
    expectFinding(await doctor(current, ['datapath']), {
      ...{
        id: 'datapath',
        verdict: 'note',
        subject: 'bridge br-int',
        evidence: /without TSO/,
        mend: /userspace-tso-enable/,
      },
    });
    await current.vsctl('set', 'Open_vSwitch', '.', 'other_config:userspace-tso-enable=true');
    expectFinding(await doctor(current, ['datapath']), {
      ...{ id: 'datapath', verdict: 'problem', subject: 'ovs-vswitchd', evidence: /TCP may hang/, mend: /restart/ },
    });
    await restart();
    expectWell(await doctor(current, ['datapath']));
  });

  it('another chassis with the address of this host', async () => {
    const { current } = box;
    current.defer(() => sbctl('--if-exists', 'chassis-del', 'other-host'));
    expectWell(await doctor(current, ['chassis']));
    await sbctl('chassis-add', 'other-host', 'geneve', '127.0.0.1');
    expectFinding(await doctor(current, ['chassis']), {
      ...{
        id: 'chassis',
        verdict: 'problem',
        subject: 'chassis other-host',
        evidence: /127\.0\.0\.1.*never registers/,
        mend: /chassis-del other-host/,
      },
    });
  });
});

describe('ports of others', () => {
  // The kernel's datapath takes the new device by itself.
  it.runIf(testDatapath() === 'netdev')('a device that was made anew under its name', async () => {
    await addForeignPort('tapx');
    expectWell(await doctor(box.current, ['dead-ports']));
    await ip('link', 'delete', 'tapx');
    await ip('tuntap', 'add', 'tapx', 'mode', 'tap');
    await ip('link', 'set', 'tapx', 'up');
    await eventually('OVS to call it sound', async () => {
      const [error, state] = (await box.current.vsctl('get', 'Interface', 'tapx', 'error', 'admin_state')).split('\n');
      return error === '[]' && state === 'up' ? true : undefined;
    });
    const { mend } = expectFinding(await doctor(box.current, ['dead-ports']), {
      ...{ id: 'dead-ports', verdict: 'warning', subject: 'port tapx', evidence: /made again under its name/ },
    });
    // What it says is what mends it.
    const [, remove, add] = /^ovs-vsctl (.*); then, as a command of its own: ovs-vsctl (.*)$/.exec(mend ?? '') ?? [];
    await box.current.vsctl(...(remove ?? '').split(' '));
    await box.current.vsctl(...(add ?? '').split(' '));
    expectWell(await doctor(box.current, ['dead-ports']));
  });

  it('a port without a device is told, and no --fix touches it', async () => {
    const { current } = box;
    await addForeignPort('tapy');
    await ip('link', 'delete', 'tapy');
    const subject = 'port tapy';
    const answer = await doctor(current, ['orphaned-ports', '--fix']);
    expectFinding(answer, {
      id: 'orphaned-ports',
      verdict: 'warning',
      subject,
      evidence: /not ours/,
      mend: /del-port br-int tapy/,
    });
    expect(answer.fixes).toEqual([]);
    expect(await current.vsctl('list-ports', 'br-int')).toContain('tapy');
  });

  it('from another network namespace it says so, and where to look from', async () => {
    const netns = `${box.current.prefix}-elsewhere`;
    await run('ip', ['netns', 'add', netns], { timeoutMs: scaled(5_000) });
    box.current.defer(async () => {
      await run('ip', ['netns', 'delete', netns], { timeoutMs: scaled(5_000) });
    });
    const pid = await pidOf('ovs-vswitchd');
    const answer = await doctor(box.current, ['orphaned-ports'], { netns });
    expect(answer.findings).toMatchObject([
      { verdict: 'unknown', evidence: expect.stringContaining(`nsenter --net=/proc/${pid}/ns/net`) },
    ]);
    expect(answer.exitCode).toBe(116);
  });
});

describe('networks', () => {
  it('two with one tag, one with none, one with nonsense', async () => {
    const { current } = box;
    const make = async (name: string, tag?: string): Promise<void> => {
      current.defer(async () => {
        await current.nbctl('--if-exists', 'ls-del', name);
      });
      await current.addSwitch(name, tag);
    };
    await make('dr-a', '100');
    await make('dr-native');
    expectWell(await doctor(current, ['tags']));
    await make('dr-b', '100');
    await make('dr-c', 'red');
    await make('dr-d');
    await current.nbctl('set', 'Logical_Switch', 'dr-d', 'external_ids:arca-owner=arca-control');
    const answer = await doctor(current, ['tags']);
    expectFinding(answer, {
      id: 'tags',
      verdict: 'problem',
      subject: 'VLAN tag 100',
      evidence: /dr-a and dr-b|dr-b and dr-a/,
    });
    expectFinding(answer, { id: 'tags', verdict: 'warning', subject: 'network dr-c', evidence: /"red"/ });
    expectFinding(answer, {
      id: 'tags',
      verdict: 'problem',
      subject: 'network dr-d',
      evidence: /no external_ids:vlan_tag/,
      mend: /vlan_tag=N/,
    });
  });

  it('DHCP that tells another MTU than the network has', async () => {
    const { current } = box;
    current.defer(async () => {
      await current.nbctl('--if-exists', 'ls-del', 'dr-mtu');
      await current.nbctl('--all', 'destroy', 'DHCP_Options');
    });
    await current.addSwitch('dr-mtu', 300);
    await current.nbctl(
      'set',
      'Logical_Switch',
      'dr-mtu',
      'other_config:subnet=10.77.0.0/24',
      'external_ids:arca-mtu=1400',
    );
    await current.nbctl('create', 'DHCP_Options', 'cidr=10.77.0.0/24', 'options:mtu=1400');
    expectWell(await doctor(current, ['mtu']));
    await current.nbctl('--all', 'destroy', 'DHCP_Options');
    await current.nbctl('create', 'DHCP_Options', 'cidr=10.77.0.0/24', 'options:mtu=1500');
    expectFinding(await doctor(current, ['mtu']), {
      ...{
        id: 'mtu',
        verdict: 'warning',
        subject: 'network dr-mtu',
        evidence: /tells MTU 1500, and the network has 1400/,
      },
    });
  });
});

describe('the command line', () => {
  it('names its checks, and refuses others', async () => {
    const { stdout } = await doctorText(box.current, ['--list']);
    expect(stdout).toMatch(/^dead-ports +ports +Ports that forward nothing$/m);
    const { exitCode, stderr } = await doctorText(box.current, ['dead-port']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("there is no check 'dead-port'");
  });

  it('problems first, each with what mends it; --quiet says nothing of what is well', async () => {
    await box.current.addSwitch('dr-x', 'none');
    box.current.defer(async () => {
      await box.current.nbctl('ls-del', 'dr-x');
    });
    const { stdout, exitCode } = await doctorText(box.current, ['tags', 'tun-device']);
    expect(stdout).toMatch(
      /^warning {2}network dr-x \(tags\)\n +external_ids:vlan_tag is "none".*\n +mend: ovn-nbctl .*\nok .*\n1 warning, 1 ok\n$/,
    );
    expect(exitCode).toBe(116);
    expect(await doctorText(box.current, ['tun-device', '--quiet'])).toEqual({ exitCode: 0, stdout: '', stderr: '' });
  });
});
