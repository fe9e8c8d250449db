/**
 * Chassis in a real southbound database, with and without a real ovn-controller: the origin document's Test 3, and the
 * conflicts of which OVN itself says nothing.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import { type ChassisRegistry, createChassisRegistry } from '../../src/control/chassis.js';
import { run } from '../../src/exec.js';
import { openSouthbound } from '../../src/ovn/southbound.js';
import { useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const NAME = 'arca-control-plane';
const KEYS = ['system-id', 'ovn-remote', 'ovn-encap-type', 'ovn-encap-ip'];

const box = useSandbox();
beforeEach(async () => {
  const { current } = box;
  /** What the sandbox tells an ovn-controller. */
  const told: Record<string, string> = {};
  for (const key of KEYS) told[key] = await current.vsctl('get', 'Open_vSwitch', '.', `external_ids:${key}`);
  current.defer(async () => {
    // A graceful end takes its chassis along; its bridge stays.
    await current.kill('ovn-controller', 'SIGTERM');
    await current.vsctl('--if-exists', 'del-br', 'br-ovn');
    await tell(told);
    for (const name of (await sbctl('--bare', '--columns=name', 'list', 'Chassis')).split(/\s+/).filter(Boolean)) {
      await sbctl('--if-exists', 'chassis-del', name);
    }
  });
});

async function sbctl(...args: string[]): Promise<string> {
  const { stdout } = await run('ovn-sbctl', args, { timeoutMs: scaled(5_000), env: box.current.fullEnv });
  return stdout.trim();
}

async function tell(settings: Readonly<Record<string, string>>): Promise<void> {
  const pairs = Object.entries(settings).map(([key, value]) => `external_ids:${key}=${value}`);
  await box.current.vsctl('set', 'Open_vSwitch', '.', ...pairs);
}

async function untell(...keys: string[]): Promise<void> {
  await box.current.vsctl('remove', 'Open_vSwitch', '.', 'external_ids', ...keys);
}

function registry(timeoutMs = 10_000): ChassisRegistry {
  const { env, fullEnv, runDir } = box.current;
  return createChassisRegistry({
    southbound: openSouthbound({ transport: 'unix', path: env['OVN_SB_DB']?.replace('unix:', '') ?? '' }),
    ovsSocketPath: `${runDir}/db.sock`,
    env: fullEnv,
    timeoutMs: scaled(timeoutMs),
  });
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('Test 3: Chassis registration', () => {
  it('ovn-sbctl show has chassis "arca-control-plane" with encap geneve 127.0.0.1', async () => {
    const chassis = registry();
    const { created, value } = await chassis.register({ name: NAME, encapIp: '127.0.0.1' });
    expect(created).toBe(true);
    expect(value).toEqual({ name: NAME, hostname: '', encaps: [{ type: 'geneve', ip: '127.0.0.1' }], isOurs: true });
    const shown = await sbctl('show');
    expect(shown).toMatch(new RegExp(`^Chassis "?${NAME}"?$`, 'm'));
    expect(shown).toMatch(/Encap geneve\n\s+ip: "127\.0\.0\.1"/);
  });

  it('again changes nothing, and the rows are those of ovn-sbctl chassis-add, with our mark', async () => {
    const chassis = registry();
    const spec = { name: NAME, encapIp: '127.0.0.1' };
    await chassis.register(spec);
    const rows = async (): Promise<string[]> => [
      await sbctl('--columns=name,hostname,other_config,transport_zones', 'list', 'Chassis'),
      await sbctl('--columns=type,ip,options,chassis_name', 'list', 'Encap'),
    ];
    const ours = await rows();
    const whole = await sbctl('list', 'Chassis');
    expect(await chassis.register(spec)).toMatchObject({ created: false, value: { isOurs: true } });
    expect(await sbctl('list', 'Chassis')).toBe(whole);
    expect(await sbctl('--bare', '--columns=external_ids', 'list', 'Chassis')).toBe('arca-owner=arca-control');
    await chassis.remove(NAME);
    expect(await rows()).toEqual(['', '']);
    await sbctl('chassis-add', NAME, 'geneve', '127.0.0.1');
    expect(await rows()).toEqual(ours);
  });

  it('one that ovn-sbctl made is taken as it is, and is not ours to remove', async () => {
    const chassis = registry();
    await sbctl('chassis-add', NAME, 'geneve', '127.0.0.1');
    expect(await chassis.register({ name: NAME, encapIp: '127.0.0.1' })).toMatchObject({ created: false });
    expect(await failureOf(chassis.remove(NAME))).toMatchObject({ code: 'chassis-conflict' });
    expect(await chassis.list()).toHaveLength(1);
    expect(await failureOf(chassis.remove('nosuch'))).toMatchObject({ code: 'chassis-unknown' });
  });

  it('with a running ovn-controller: it registers itself by what it is told, and there is one row', async () => {
    await untell('ovn-remote', 'ovn-encap-type', 'ovn-encap-ip');
    await box.current.start('ovn-controller');
    expect(await sbctl('list', 'Chassis')).toBe('');
    const chassis = registry();
    const spec = { name: NAME, encapIp: '127.0.0.1' };
    const { created, value } = await chassis.register(spec);
    expect(created).toBe(true);
    expect(value).toMatchObject({ name: NAME, encaps: [{ type: 'geneve', ip: '127.0.0.1' }], isOurs: true });
    // What ovn-controller writes and we do not.
    expect(value.hostname).not.toBe('');
    expect(await box.current.vsctl('get', 'Open_vSwitch', '.', 'external_ids:ovn-encap-ip')).toBe('"127.0.0.1"');
    expect(await chassis.register(spec)).toMatchObject({ created: false });
    expect(await chassis.list()).toHaveLength(1);
    expect(await failureOf(chassis.remove(NAME))).toMatchObject({ code: 'chassis-conflict' });
  });

  it('with an ovn-controller that was told before and starts now: its row is waited for', async () => {
    await box.current.start('ovn-controller');
    expect(await registry().register({ name: NAME, encapIp: '127.0.0.1' })).toMatchObject({ created: false });
    expect(await sbctl('--bare', '--columns=name', 'list', 'Chassis')).toBe(NAME);
  });

  it('first by us, then an ovn-controller of the same system-id starts: one row, which stays when it is killed', async () => {
    const chassis = registry();
    await chassis.register({ name: NAME, encapIp: '127.0.0.1' });
    await box.current.start('ovn-controller');
    await eventually('the chassis to have a host name', async () => {
      const [row] = await chassis.list();
      return row !== undefined && row.hostname !== '' ? row : undefined;
    });
    expect(await chassis.list()).toHaveLength(1);
    expect(await chassis.register({ name: NAME, encapIp: '127.0.0.1' })).toMatchObject({ created: false });
    await box.current.kill('ovn-controller', 'SIGKILL');
    expect(await chassis.list()).toHaveLength(1);
  });
});

describe('conflicts, before they bite', () => {
  it('the same address under another name is refused, with what would have happened', async () => {
    const chassis = registry();
    await sbctl('chassis-add', 'old-name', 'geneve', '127.0.0.1');
    const error = await failureOf(chassis.register({ name: NAME, encapIp: '127.0.0.1' }));
    expect(error).toMatchObject({ code: 'chassis-conflict', details: { chassis: 'old-name', encapIp: '127.0.0.1' } });
    expect(String(error)).toContain('would never register');
    // And that is what does happen.
    await box.current.start('ovn-controller');
    const refused = await failureOf(registry(1_000).register({ name: NAME, encapIp: '127.0.0.1' }));
    expect(refused).toMatchObject({ code: 'chassis-conflict' });
    expect(await sbctl('--bare', '--columns=name', 'list', 'Chassis')).toBe('old-name');
  });

  it('another address under the same name is refused, since --may-exist would say yes and leave the old one', async () => {
    const chassis = registry();
    await chassis.register({ name: NAME, encapIp: '127.0.0.1' });
    await sbctl('--may-exist', 'chassis-add', NAME, 'geneve', '127.0.0.2');
    expect(await sbctl('--bare', '--columns=ip', 'list', 'Encap')).toBe('127.0.0.1');
    expect(await failureOf(chassis.register({ name: NAME, encapIp: '127.0.0.2' }))).toMatchObject({
      code: 'chassis-conflict',
      details: { differences: [{ property: 'encapIp', existing: ['127.0.0.1'], wanted: '127.0.0.2' }] },
    });
    await chassis.remove(NAME);
    expect(await chassis.register({ name: NAME, encapIp: '127.0.0.2' })).toMatchObject({ created: true });
  });

  it('an ovn-controller that is set up under another name, and does not run yet, is found', async () => {
    const error = await failureOf(registry().register({ name: 'other-name', encapIp: '127.0.0.1' }));
    expect(error).toMatchObject({ code: 'chassis-conflict', details: { systemId: NAME } });
    expect(await sbctl('list', 'Chassis')).toBe('');
    // With an address of its own it does not matter.
    expect(await registry().register({ name: 'other-name', encapIp: '127.0.0.9' })).toMatchObject({ created: true });
  });

  it('a running ovn-controller is not given another name, address or database', async () => {
    await box.current.start('ovn-controller');
    const refusals = [
      [{}, { name: 'other-name', encapIp: '127.0.0.9' }],
      [{}, { name: NAME, encapIp: '127.0.0.9' }],
      [{ 'ovn-remote': 'unix:/nowhere/sb.sock' }, { name: NAME, encapIp: '127.0.0.1' }],
    ] as const;
    for (const [settings, spec] of refusals) {
      if (Object.keys(settings).length > 0) await tell(settings);
      expect(await failureOf(registry().register(spec))).toMatchObject({ code: 'chassis-conflict' });
    }
  });

  it('two who register at once end with one chassis', async () => {
    const spec = { name: NAME, encapIp: '127.0.0.1' };
    for (let round = 0; round < 5; round++) {
      const made = await Promise.all([registry().register(spec), registry().register(spec), registry().register(spec)]);
      expect(made.filter(({ created }) => created)).toHaveLength(1);
      await registry().remove(NAME);
    }
  });
});

describe('databases that do not answer', () => {
  it('a southbound database that is gone, or hangs, has codes of its own', async () => {
    const chassis = registry(500);
    await box.current.pause('ovn-southbound');
    box.current.defer(() => box.current.resume('ovn-southbound'));
    expect(await failureOf(chassis.list())).toMatchObject({ code: 'southbound-timeout' });
    await box.current.kill('ovn-southbound');
    expect(await failureOf(chassis.list())).toMatchObject({ code: 'southbound-unreachable' });
    await box.current.start('ovn-southbound');
    expect(await chassis.list()).toEqual([]);
  });

  it('an OVS database that is gone is told as such', async () => {
    const { fullEnv, env } = box.current;
    const chassis = createChassisRegistry({
      southbound: openSouthbound({ transport: 'unix', path: env['OVN_SB_DB']?.replace('unix:', '') ?? '' }),
      ovsSocketPath: '/nowhere/db.sock',
      env: fullEnv,
      timeoutMs: 1_000,
    });
    expect(await failureOf(chassis.register({ name: NAME, encapIp: '127.0.0.1' }))).toMatchObject({
      code: 'ovs-unreachable',
    });
  });
});
