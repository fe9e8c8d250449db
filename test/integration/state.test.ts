/** `arca state` on a real OVS: what it makes, what it leaves alone, and that the same again changes nothing. */
import { writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { startInBackground } from '../support/background.js';
import { useSandbox } from '../support/sandbox.js';
import { addDevice, apply, arcaState, pathsOf, removeLater, stateCommand, stateText, told } from '../support/state.js';

const box = useSandbox();

async function transactionCount(): Promise<number> {
  const { stdout } = await box.current.exec('ovsdb-tool', ['show-log', `${box.current.runDir}/conf.db`]);
  return stdout.match(/^record \d+/gm)?.length ?? 0;
}

/** Rows of a table as ovs-vsctl gives them, without what vswitchd writes. */
async function rows(): Promise<string> {
  const { vsctl } = box.current;
  const columns = [
    'Bridge name,datapath_type,external_ids',
    'Port name,tag,trunks,external_ids',
    'Interface name,type,options',
  ];
  const lists = columns.map(async (text) => {
    const [table = '', names = ''] = text.split(' ');
    return vsctl('--format=csv', `--columns=${names}`, 'list', table);
  });
  return (await Promise.all(lists)).map((list) => list.split('\n').sort().join('\n')).join('\n');
}

const TWO = [
  { name: 'sb0', ports: ['sd0'], internal_ports: ['sb0-if'], vlan: 7 },
  { name: 'sb1', internal_ports: [{ name: 'sb1-if', trunks: [3, 5], external_ids: { owner: 'me' } }] },
];

describe('plan', () => {
  it('shows what would change, and changes nothing; --dry-run of apply is the same', async () => {
    const sandbox = box.current;
    const before = await rows();
    const shown = await arcaState(sandbox, 'plan', stateText(TWO));
    expect(shown).toMatchObject({ exitCode: 0, stderr: '' });
    expect(shown.stdout).toContain('+ bridge sb0\n');
    expect(shown.stdout).toContain('+ bridge sb1, port sb1-if\n    type = internal\n    trunks = [3, 5]\n');
    expect(shown.stdout).toMatch(/\n\nPlan: 5 to add, 0 to change, 0 to remove\.\n$/);
    expect(await arcaState(sandbox, 'apply', stateText(TWO), '--dry-run')).toEqual(shown);
    const { changes, summary } = told(await arcaState(sandbox, 'plan', stateText(TWO), '--json'));
    expect(pathsOf(changes)).toContain('create bridge sb0, port sd0');
    expect(summary).toEqual({ create: 5, update: 0, delete: 0 });
    expect(await rows()).toBe(before);
  });

  it('points to the line of a mistake, and asks OVS nothing', async () => {
    const file =
      '{ "version": 1,\n "plugins": { "network": { "bridges": [\n { "name": "b", "datapath_typ": "netdev" } ] } } }';
    const answer = await arcaState(box.current, 'plan', file);
    expect(answer.exitCode).toBe(ERROR_KINDS['state-invalid'].exitCode);
    expect(answer.stderr).toMatch(/^standard input:3:\d+: .*did you mean datapath_type\?\n/);
    expect(answer.stderr).toContain('standard input has one mistake; nothing was done');
  });
});

describe('apply', () => {
  it('makes all of it in ONE transaction, and the same again changes nothing and says so', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    const { exitCode, changed, changes } = await apply(sandbox, stateText(TWO));
    expect({ exitCode, changed, count: changes.length }).toEqual({ exitCode: 0, changed: true, count: 5 });
    expect(await sandbox.vsctl('list-ports', 'sb0')).toBe('sb0-if\nsd0');
    expect(await sandbox.vsctl('get', 'Port', 'sb0-if', 'tag')).toBe('7');
    expect(await sandbox.vsctl('get', 'Port', 'sb1-if', 'trunks', 'external_ids:owner')).toBe('[3, 5]\nme');
    for (const name of ['sb0-if', 'sb1-if', 'sd0']) {
      expect(Number(await sandbox.vsctl('get', 'Interface', name, 'ofport'))).toBeGreaterThan(0);
    }
    const before = { rows: await rows(), nextCfg: await sandbox.vsctl('get', 'Open_vSwitch', '.', 'next_cfg') };
    const again = await arcaState(sandbox, 'apply', stateText(TWO));
    expect(again).toEqual({ exitCode: 0, stdout: 'No changes: everything is as the file says.\n', stderr: '' });
    expect({ rows: await rows(), nextCfg: await sandbox.vsctl('get', 'Open_vSwitch', '.', 'next_cfg') }).toEqual(
      before,
    );
  });

  it('writes one record that holds every row of ours', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    const before = await transactionCount();
    await apply(sandbox, stateText(TWO));
    const { stdout } = await sandbox.exec('ovsdb-tool', ['-m', 'show-log', `${sandbox.runDir}/conf.db`]);
    const records = stdout.split(/^(?=record \d+)/m).slice(before);
    const inserting = records.filter((record) => /row "sb[01](-if)?".*\n?.*insert|insert row "?sb/.test(record));
    expect(inserting).toHaveLength(1);
    for (const name of ['sb0', 'sb1', 'sb0-if', 'sb1-if', 'sd0']) expect(inserting[0]).toContain(name);
  });

  it('changes and removes what the file does not name any more, and only that', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    await sandbox.vsctl('add-br', 'theirs', '--', 'set', 'Bridge', 'theirs', `datapath_type=${sandbox.datapath}`);
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', 'theirs')));
    await apply(sandbox, stateText(TWO));
    const { changes, exitCode } = await apply(sandbox, stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }]));
    expect(exitCode).toBe(0);
    expect(pathsOf(changes).sort()).toEqual([
      'delete bridge sb0, port sd0',
      'delete bridge sb1',
      'delete bridge sb1, port sb1-if',
      'update bridge sb0, port sb0-if',
    ]);
    expect(await sandbox.vsctl('list-br')).toBe('br-int\nsb0\ntheirs');
    expect(await sandbox.vsctl('get', 'Port', 'sb0-if', 'tag')).toBe('[]');
  });

  it.each([
    ['yes', 0],
    ['y', ERROR_KINDS['not-confirmed'].exitCode],
  ])('asks on a terminal, and only yes is one: %s', async (answer, exitCode) => {
    const sandbox = box.current;
    removeLater(sandbox);
    const file = `${sandbox.runDir}/ovs-state.json`;
    await writeFile(file, stateText([{ name: 'sb0' }]));
    const [command, args] = stateCommand(sandbox, 'apply', file);
    // script(1) gives it a terminal.
    const words = ['-qec', [command, ...args].join(' '), '/dev/null'];
    const running = startInBackground('script', words, { env: sandbox.fullEnv, input: Buffer.from(`${answer}\n`) });
    sandbox.defer(() => running.destroy());
    expect((await running.ended).exitCode).toBe(exitCode);
    expect(running.stdout.all.join('\n')).toContain('Do it? Only yes is taken:');
    expect(await sandbox.vsctl('list-br')).toBe(answer === 'yes' ? 'br-int\nsb0' : 'br-int');
  });

  it('asks nobody where nobody is: not-confirmed, and nothing is done', async () => {
    const before = await rows();
    const answer = await arcaState(box.current, 'apply', stateText(TWO));
    expect(answer.exitCode).toBe(ERROR_KINDS['not-confirmed'].exitCode);
    expect(answer.stderr).toContain('--yes does it');
    expect(await rows()).toBe(before);
  });
});

describe('addresses', () => {
  const withAddress = (...address: string[]): string =>
    stateText([{ name: 'sb0', internal_ports: ['sb0-if'], address }]);
  const ip = async (...args: string[]): Promise<string> => (await box.current.exec('ip', args)).stdout;

  it('come and go with the file; those of others stay', async () => {
    const sandbox = box.current;
    await apply(sandbox, withAddress('10.99.0.1/24', 'fd00:99::1/64'));
    await ip('address', 'add', '10.99.0.7/24', 'dev', 'sb0-if');
    const { changes } = await apply(sandbox, withAddress('10.99.0.2/24'));
    expect(pathsOf(changes).sort()).toEqual([
      'create device sb0-if, address 10.99.0.2/24',
      'delete device sb0-if, address 10.99.0.1/24',
      'delete device sb0-if, address fd00:99::1/64',
    ]);
    const now = await ip('-brief', 'address', 'show', 'sb0-if');
    expect(now).toContain('10.99.0.7/24');
    expect(now).toContain('10.99.0.2/24');
    expect(now).not.toContain('10.99.0.1/24');
    expect(await sandbox.vsctl('get', 'Bridge', 'sb0', 'external_ids:arca-state-links')).toBe('"sb0-if=10.99.0.2/24"');
  });

  it('of a device of no bridge are remembered by the root, and go when the file does not name them', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    const file = stateText([], [{ name: 'sd0', address: '10.99.0.1/24', mtu: 1400 }]);
    expect((await apply(sandbox, file)).exitCode).toBe(0);
    expect(await ip('address', 'show', 'sd0')).toMatch(/mtu 1400 [\s\S]*10\.99\.0\.1\/24/);
    expect((await apply(sandbox, stateText([]))).exitCode).toBe(0);
    expect(await ip('address', 'show', 'sd0')).not.toContain('10.99.0.1');
    expect(await sandbox.vsctl('get', 'Open_vSwitch', '.', 'external_ids')).not.toContain('arca-state');
  });
});

describe('what belongs to others', () => {
  async function addTheirs(...ports: string[]): Promise<void> {
    const sandbox = box.current;
    await sandbox.vsctl('add-br', 'sb0', '--', 'set', 'Bridge', 'sb0', `datapath_type=${sandbox.datapath}`);
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', 'sb0')));
    for (const port of ports)
      await sandbox.vsctl('add-port', 'sb0', port, '--', 'set', 'Interface', port, 'type=internal');
  }

  it('a bridge of the same name is refused, and taken with --adopt; its other ports stay', async () => {
    const sandbox = box.current;
    await addTheirs('s-theirs');
    const file = stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }]);
    const before = await rows();
    const refused = await apply(sandbox, file);
    expect(refused.exitCode).toBe(ERROR_KINDS['state-foreign'].exitCode);
    expect(refused.stderr).toContain('--adopt makes it ours');
    expect(refused.error?.code).toBe('state-foreign');
    expect(await rows()).toBe(before);

    expect((await apply(sandbox, file, '--adopt')).exitCode).toBe(0);
    expect(await sandbox.vsctl('list-ports', 'sb0')).toBe('s-theirs\nsb0-if');
    expect(await sandbox.vsctl('get', 'Bridge', 'sb0', 'external_ids:arca-owner')).toBe('arca-state');
    // When it goes from the file, what others have on it keeps it alive.
    const { changes } = await apply(sandbox, stateText([]));
    expect(pathsOf(changes)).toEqual(['delete bridge sb0, port sb0-if', 'update bridge sb0']);
    expect(await sandbox.vsctl('list-ports', 'sb0')).toBe('s-theirs');
    expect(await sandbox.vsctl('get', 'Bridge', 'sb0', 'external_ids')).toBe('{}');
  });

  it('a port that is on another bridge is refused, and the bridge is named', async () => {
    const sandbox = box.current;
    await addTheirs('s-theirs');
    const answer = await apply(sandbox, stateText([{ name: 'sb1', internal_ports: ['s-theirs'] }]), '--adopt');
    expect(answer.exitCode).toBe(ERROR_KINDS['state-foreign'].exitCode);
    expect(answer.stderr).toContain('bridge sb1, port s-theirs: a port of that name is on bridge sb0');
  });

  it('br-int and the ports of relays are not touched', async () => {
    const sandbox = box.current;
    const tap = ['add-port', 'br-int', 'tap5555', '--', 'set', 'Interface', 'tap5555', 'type=internal'];
    await sandbox.vsctl(...tap, '--', 'set', 'Port', 'tap5555', 'external_ids:arca-owner=arca-relay', 'tag=100');
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-port', 'tap5555')));
    const before = await rows();
    await apply(sandbox, stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }]));
    await apply(sandbox, stateText([]));
    expect(await rows()).toBe(before);
    const named = await arcaState(sandbox, 'apply', stateText([{ name: 'br-int' }]), '--yes', '--adopt');
    expect(named.exitCode).toBe(ERROR_KINDS['state-invalid'].exitCode);
    const taken = await arcaState(
      sandbox,
      'apply',
      stateText([{ name: 'sb0', ports: ['tap5555'] }]),
      '--yes',
      '--adopt',
    );
    expect(taken.exitCode).not.toBe(0);
    expect(await rows()).toBe(before);
  });
});

const BROADCAST_DROP = 'priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop';

function withFlows(...rules: string[]): string {
  return stateText([{ name: 'sb0', openflow: { auto_apply_defaults: true, default_rules: rules } }]);
}

describe('flows', () => {
  const ofctl = async (...args: string[]): Promise<string> => (await box.current.exec('ovs-ofctl', args)).stdout;
  const dump = (): Promise<string> => ofctl('dump-flows', '--no-stats', 'sb0');

  it('carry a cookie of ours; those of others stay; the same again changes nothing', async () => {
    const sandbox = box.current;
    expect(
      (await apply(sandbox, withFlows('priority=60,arp,actions=normal', 'priority=50,actions=normal'))).exitCode,
    ).toBe(0);
    await ofctl('add-flow', 'sb0', 'priority=7,ip,actions=drop');
    expect((await dump()).match(/cookie=0x6172636173746174/g)).toHaveLength(2);
    const same = withFlows('priority=60,arp,actions=normal', 'priority=50,actions=normal');
    expect((await apply(sandbox, same)).changed).toBe(false);
    const { changes } = await apply(sandbox, withFlows('priority=60,arp,actions=flood'));
    expect(pathsOf(changes).sort()).toEqual([
      'delete bridge sb0, flow priority=50 actions=NORMAL',
      'update bridge sb0, flow priority=60,arp',
    ]);
    expect(await dump()).toContain('priority=7,ip actions=drop');
  });

  it('that ovs-ofctl does not take stop everything before anything changes', async () => {
    const before = await rows();
    const answer = await apply(box.current, withFlows('priority=50,dldst=ff:ff:ff:ff:ff:ff,actions=drop'));
    expect(answer.exitCode).toBe(ERROR_KINDS['flow-invalid'].exitCode);
    expect(answer.stderr).toContain('standard input:1: bridge sb0: priority=50,dldst');
    expect(await rows()).toBe(before);
  });

  it('that kill ARP and DHCP are applied after a warning', async () => {
    const answer = await apply(box.current, withFlows(BROADCAST_DROP, 'priority=50,actions=normal'));
    expect(answer.exitCode).toBe(0);
    expect(answer.warnings).toHaveLength(1);
    expect(answer.warnings[0]).toContain('drops ARP requests, DHCP requests');
    const shown = await arcaState(box.current, 'plan', withFlows(BROADCAST_DROP, 'priority=50,actions=normal'));
    expect(shown.stderr).toMatch(/^warning: .*drops ARP requests/);
    expect(await dump()).toContain('actions=drop');
  });

  it('of somebody else in the place of ours are not replaced', async () => {
    const sandbox = box.current;
    await apply(sandbox, stateText([{ name: 'sb0' }]));
    await ofctl('add-flow', 'sb0', 'priority=50,arp,actions=drop');
    const answer = await apply(sandbox, withFlows('priority=50,arp,actions=normal'));
    expect(answer.exitCode).toBe(ERROR_KINDS['state-foreign'].exitCode);
    expect(await dump()).toContain('priority=50,arp actions=drop');
  });

  it('that are gone are told by verify, and come back with apply', async () => {
    const sandbox = box.current;
    const file = withFlows('priority=50,actions=normal');
    await apply(sandbox, file);
    await ofctl('del-flows', 'sb0');
    const verified = await arcaState(sandbox, 'verify', file);
    expect(verified).toMatchObject({
      exitCode: 1,
      stdout: '! bridge sb0, flow priority=50 actions=NORMAL: is missing\n',
    });
    await apply(sandbox, file);
    expect((await arcaState(sandbox, 'verify', file)).exitCode).toBe(0);
  });
});

describe('verify', () => {
  it('exits 0 when it is as the file says, and 1 with what differs', async () => {
    const sandbox = box.current;
    await addDevice(sandbox, 'sd0');
    await apply(sandbox, stateText(TWO));
    expect(await arcaState(sandbox, 'verify', stateText(TWO))).toEqual({
      ...{ exitCode: 0, stdout: 'It is as the file says.\n', stderr: '' },
    });
    await sandbox.vsctl('set', 'Port', 'sb0-if', 'tag=8', '--', 'del-port', 'sb1-if');
    const different = told(await arcaState(sandbox, 'verify', stateText(TWO), '--json'));
    expect(different.exitCode).toBe(1);
    expect(different.matches).toBe(false);
    expect(different.differences).toEqual([
      { path: 'bridge sb0, port sb0-if', what: 'tag is 8, the file says 7' },
      { path: 'bridge sb1, port sb1-if', what: 'is missing' },
    ]);
    expect((await apply(sandbox, stateText(TWO))).exitCode).toBe(0);
    expect((await arcaState(sandbox, 'verify', stateText(TWO))).exitCode).toBe(0);
  });

  it('sees that vswitchd does not run', async () => {
    const sandbox = box.current;
    await apply(sandbox, stateText([{ name: 'sb0' }]));
    await sandbox.kill('ovs-vswitchd');
    try {
      const { exitCode, stdout } = await arcaState(sandbox, 'verify', stateText([{ name: 'sb0' }]));
      expect(exitCode).toBe(1);
      expect(stdout).toContain('! ovs-vswitchd: the daemon does not run, or does not answer');
    } finally {
      await sandbox.start('ovs-vswitchd');
    }
  });
});
