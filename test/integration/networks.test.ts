/**
 * Networks in a real northbound database, with a real ovn-northd: tags, races, restarts of the server, and what others
 * make with ovn-nbctl. The ancestor's faults that are about tags and networks are here, by name.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Network } from '../../src/control/model.js';
import { chooseTag } from '../../src/control/networks.js';
import { logicalPortName, tapName } from '../../src/ovn/names.js';
import type { Northbound } from '../../src/ovn/northbound.js';
import type { LogicalPortSpec } from '../../src/ovn/northbound-operations.js';
import type { NorthboundView } from '../../src/ovn/northbound-view.js';
import { streamEndpointText } from '../../src/stream-endpoint.js';
import { startInBackground } from '../support/background.js';
import { clearNorthbound, northboundRows, northboundSocket, openTestNorthbound } from '../support/northbound.js';
import { useSandbox } from '../support/sandbox.js';
import { scaled, within } from '../support/time.js';

const CREATE_NETWORKS = fileURLToPath(new URL('../tools/create-networks.mjs', import.meta.url));
const call = { timeoutMs: scaled(5_000) };

const box = useSandbox();

// The first to be deferred is the last to be undone: what a test stopped runs again by then.
beforeEach(() => box.current.defer(() => clearNorthbound(box.current)));

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

interface Made {
  readonly name: string;
  readonly vlan: number;
  readonly created: boolean;
}

/** Control processes, as many as there are stems, that begin at the same moment. */
async function createAtOnce(stems: readonly string[], count: number): Promise<Made[][]> {
  const processes = stems.map((stem) => {
    const args = [CREATE_NETWORKS, northboundSocket(box.current), stem, String(count)];
    const child = startInBackground(process.execPath, args, { input: 'open' });
    box.current.defer(() => child.destroy());
    return child;
  });
  await Promise.all(processes.map(({ stdout }) => stdout.waitFor(/^ready$/, { timeoutMs: 20_000 })));
  for (const child of processes) child.closeInput();
  return Promise.all(
    processes.map(async (child) => {
      const line = await child.stdout.waitFor(/^\[/, { timeoutMs: 60_000 });
      expect(await child.ended, child.stderr.all.join('\n')).toMatchObject({ exitCode: 0 });
      return JSON.parse(line) as Made[];
    }),
  );
}

/** Many foreign switches with tags, in one command. */
async function occupy(tags: readonly number[]): Promise<void> {
  const commands = tags.flatMap((tag) => ['--', 'ls-add', `other${tag}`, ...settingTag(`other${tag}`, tag)]);
  for (let i = 0; i < commands.length; i += 7 * 500)
    await box.current.nbctl('--no-wait', ...commands.slice(i, i + 7 * 500));
}

const settingTag = (name: string, tag: number | string): string[] => [
  ...['--', 'set', 'Logical_Switch', name, `external_ids:vlan_tag="${tag}"`],
];

describe('a network', () => {
  it('is a logical switch with what it was given, and the relay finds its tag', async () => {
    const { networks } = openTestNorthbound(box.current);
    const spec = {
      name: 'net-a',
      subnet: '10.9.0.0/24',
      gateway: '10.9.0.1',
      dns: ['10.9.0.53', '1.1.1.1'],
      mtu: 1400,
    };
    const { created, value } = await networks.create(spec);
    expect(created).toBe(true);
    expect(value).toEqual({ ...spec, id: value.id, vlan: 100, owner: 'arca', attachments: 0 });
    expect(await box.current.nbctl('get', 'Logical_Switch', 'net-a', 'external_ids:vlan_tag')).toBe('"100"');
    const config = await box.current.nbctl('get', 'Logical_Switch', 'net-a', 'other_config');
    expect(config).toBe('{exclude_ips="10.9.0.1 10.9.0.53", gateway="10.9.0.1", subnet="10.9.0.0/24"}');
    expect(await networks.get('net-a')).toEqual(value);
    expect(await networks.list()).toEqual([value]);
  });

  it('is made once: the same again says that it was there, another says what differs', async () => {
    const { networks } = openTestNorthbound(box.current);
    const spec = { name: 'net-a', subnet: '10.9.0.0/24' };
    const first = await networks.create(spec);
    const rows = await northboundRows(box.current);
    expect(await networks.create(spec)).toEqual({ created: false, value: first.value });
    expect(await networks.create({ ...spec, vlan: 100 })).toMatchObject({ created: false });
    expect(await failureOf(networks.create({ ...spec, vlan: 200, mtu: 9000 }))).toMatchObject({
      code: 'network-conflict',
      details: {
        differences: [
          { property: 'vlan', existing: 100, wanted: 200 },
          { property: 'mtu', existing: 1500, wanted: 9000 },
        ],
      },
    });
    expect(await northboundRows(box.current)).toBe(rows);
  });

  it('leaves nothing when it is removed', async () => {
    const { networks } = openTestNorthbound(box.current);
    const before = await northboundRows(box.current);
    await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    await networks.remove('net-a');
    expect(await northboundRows(box.current)).toBe(before);
    expect(await failureOf(networks.remove('net-a'))).toMatchObject({ code: 'network-unknown' });
  });

  it('has a subnet that no other has, also not in part', async () => {
    const { networks } = openTestNorthbound(box.current);
    await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    for (const subnet of ['10.9.0.0/24', '10.0.0.0/8', '10.9.0.128/25']) {
      expect(await failureOf(networks.create({ name: 'net-b', subnet }))).toMatchObject({
        code: 'subnet-overlap',
        details: { network: 'net-a' },
      });
    }
    expect(await networks.create({ name: 'net-b', subnet: '10.9.1.0/24' })).toMatchObject({ created: true });
  });
});

describe('VLAN tags, and what the ancestor did with them', () => {
  it('restarted at 100 after a restart: another process goes on where the database is', async () => {
    const first = openTestNorthbound(box.current);
    await first.networks.create({ name: 'net-a' });
    await first.northbound.stop();
    const second = openTestNorthbound(box.current);
    expect((await second.networks.create({ name: 'net-b' })).value.vlan).toBe(101);
  });

  it('never reclaimed a tag: that of a removed network is the next one', async () => {
    const { networks } = openTestNorthbound(box.current);
    for (const name of ['net-a', 'net-b', 'net-c']) await networks.create({ name });
    await networks.remove('net-b');
    expect((await networks.create({ name: 'net-d' })).value.vlan).toBe(101);
    expect((await networks.create({ name: 'net-e' })).value.vlan).toBe(103);
  });

  it('handed out 4095: a full range is an error that says so, and a removed network ends it', async () => {
    const { networks } = openTestNorthbound(box.current);
    const tags = Array.from({ length: 4094 - 100 + 1 }, (_, i) => 100 + i);
    await occupy(tags.filter((tag) => tag !== 4094));
    const last = await networks.create({ name: 'net-last' });
    expect(last.value.vlan).toBe(4094);
    expect(await failureOf(networks.create({ name: 'net-more' }))).toMatchObject({ code: 'tags-exhausted' });
    // What is left below is given by hand only.
    expect((await networks.create({ name: 'net-low', vlan: 7 })).value.vlan).toBe(7);
    expect(await failureOf(networks.create({ name: 'net-4095', vlan: 4095 }))).toMatchObject({ code: 'spec-invalid' });
    await box.current.nbctl('ls-del', 'other2000');
    expect((await networks.create({ name: 'net-more' })).value.vlan).toBe(2000);
  });

  it('gave one tag to two networks: two processes that create 200 each at once end with 400 tags', async () => {
    const [one = [], two = []] = await createAtOnce(['one-', 'two-'], 200);
    const all = [...one, ...two];
    expect(all.filter(({ created }) => !created)).toEqual([]);
    const tags = all.map(({ vlan }) => vlan).sort((a, b) => a - b);
    expect(tags).toEqual(Array.from({ length: 400 }, (_, i) => 100 + i));
    // The database says the same, and both did take part all the while.
    const { networks } = openTestNorthbound(box.current);
    const listed = await networks.list();
    expect(new Set(listed.map(({ vlan }) => vlan)).size).toBe(400);
    expect(listed).toHaveLength(400);
    expect(Math.min(...two.map(({ vlan }) => vlan))).toBeLessThan(Math.max(...one.map(({ vlan }) => vlan)));
  });

  it('races with ovn-nbctl too: a tag that somebody took between look and write is not given again', async () => {
    const { northbound } = openTestNorthbound(box.current);
    const env = box.current.fullEnv;
    const seen: string[][] = [];
    const { row } = await northbound.createSwitch((view: NorthboundView) => {
      // Between look and write: nothing is read from the connection while this runs.
      if (seen.length === 0) execFileSync('ovn-nbctl', ['ls-add', 'quick', ...settingTag('quick', 100)], { env });
      seen.push(view.switches.map(({ name }) => name));
      return {
        write: { name: 'net-a', externalIds: { vlan_tag: String(chooseTag(view, undefined)) }, otherConfig: {} },
      };
    }, call);
    expect(seen).toEqual([[], ['quick']]);
    expect(row.externalIds['vlan_tag']).toBe('101');
  });

  it('is refused when another switch has it, whoever made that', async () => {
    const { networks } = openTestNorthbound(box.current);
    await box.current.addSwitch('theirs', 300);
    expect(await failureOf(networks.create({ name: 'net-a', vlan: 300 }))).toMatchObject({
      code: 'tag-in-use',
      details: { network: 'theirs' },
    });
  });
});

describe('two who want the same', () => {
  it('name: many who create one network get one network', async () => {
    const sides = [openTestNorthbound(box.current), openTestNorthbound(box.current)];
    const made = await Promise.all(
      Array.from({ length: 40 }, (_, i) => sides[i % 2]?.networks.create({ name: 'net-a', subnet: '10.9.0.0/24' })),
    );
    expect(made.filter((answer) => answer?.created)).toHaveLength(1);
    expect(new Set(made.map((answer) => answer?.value.id)).size).toBe(1);
  });

  it('subnet, from two sides under two names: one is told that it overlaps', async () => {
    const sides = [openTestNorthbound(box.current), openTestNorthbound(box.current)];
    for (let round = 0; round < 10; round++) {
      const made = await Promise.all(
        sides.map(({ networks }, i) => failureOf(networks.create({ name: `net-${i}`, subnet: '10.9.0.0/24' }))),
      );
      expect(made.filter((error) => error === undefined)).toHaveLength(1);
      expect(made.find((error) => error !== undefined)).toMatchObject({ code: 'subnet-overlap' });
      await clearNorthbound(box.current);
    }
  });
});

describe('a logical switch that somebody made with ovn-nbctl', () => {
  it('is shown, is not changed, and is taken over when it is asked for', async () => {
    const { networks } = openTestNorthbound(box.current);
    await box.current.nbctl('ls-add', 'theirs', '--', 'set', 'Logical_Switch', 'theirs', 'external_ids:their-key=kept');
    expect(await networks.list()).toMatchObject([{ name: 'theirs', owner: 'foreign', vlan: null }]);
    expect(await failureOf(networks.create({ name: 'theirs' }))).toMatchObject({ code: 'network-foreign' });
    expect(await failureOf(networks.remove('theirs'))).toMatchObject({ code: 'network-foreign' });
    const adopted: Network = await networks.adopt('theirs', {});
    expect(adopted).toMatchObject({ owner: 'arca', vlan: 100 });
    expect(await networks.adopt('theirs', {})).toEqual(adopted);
    expect(await box.current.nbctl('get', 'Logical_Switch', 'theirs', 'external_ids')).toBe(
      '{arca-owner=arca-control, their-key=kept, vlan_tag="100"}',
    );
    await networks.remove('theirs');
  });

  it('keeps its tag, or gets the one that is asked for, unless another has it', async () => {
    const { networks } = openTestNorthbound(box.current);
    await box.current.addSwitch('tagged', 7);
    await box.current.addSwitch('same', 7);
    await box.current.addSwitch('plain');
    await box.current.addSwitch('bad', '0x10');
    expect(await failureOf(networks.adopt('tagged', { vlan: 8 }))).toMatchObject({ code: 'network-conflict' });
    expect(await failureOf(networks.adopt('tagged', {}))).toMatchObject({ code: 'tag-in-use' });
    await box.current.nbctl('ls-del', 'same');
    expect(await networks.adopt('tagged', {})).toMatchObject({ vlan: 7 });
    expect(await failureOf(networks.adopt('plain', { vlan: 7 }))).toMatchObject({ code: 'tag-in-use' });
    expect(await networks.adopt('plain', { vlan: 8 })).toMatchObject({ vlan: 8 });
    expect(await failureOf(networks.adopt('bad', {}))).toMatchObject({ code: 'tag-invalid' });
    expect(await networks.adopt('bad', { vlan: 9 })).toMatchObject({ vlan: 9 });
  });

  it('is not removed with ports of somebody else in it, and two of one name are told apart by nobody', async () => {
    const { networks } = openTestNorthbound(box.current);
    await box.current.nbctl('ls-add', 'theirs', '--', 'lsp-add', 'theirs', 'their-port');
    await networks.adopt('theirs', {});
    expect(await failureOf(networks.remove('theirs'))).toMatchObject({
      code: 'network-busy',
      details: { logicalPorts: [], foreignPorts: ['their-port'] },
    });
    await box.current.nbctl('--add-duplicate', 'ls-add', 'theirs');
    expect(await failureOf(networks.get('theirs'))).toMatchObject({ code: 'network-ambiguous' });
    expect(await networks.list()).toHaveLength(2);
  });
});

describe('a logical port', () => {
  it('gets MAC and address from northd, or has those that it was given', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const network = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24', gateway: '10.9.0.2' });
    const add = (container: string, port: number, given: Partial<LogicalPortSpec> = {}) =>
      addPort(northbound, network.value, container, port, given);
    // northd keeps the first address for a router, and the gateway is excluded.
    expect(await add('web', 5555)).toEqual({ mac: expect.stringMatching(/^[0-9a-f:]{17}$/), addresses: ['10.9.0.3'] });
    const mac = '02:00:00:00:00:01';
    expect(await add('db', 5556, { mac })).toEqual({ mac, addresses: ['10.9.0.4'] });
    expect(await add('dns', 5557, { address: '10.9.0.53' })).toMatchObject({ addresses: ['10.9.0.53'] });
    const both = { mac: '02:00:00:00:00:02', address: '10.9.0.5' };
    expect(await add('mail', 5558, both)).toEqual({ mac: both.mac, addresses: [both.address] });
    expect(await add('next', 5559)).toMatchObject({ addresses: ['10.9.0.6'] });
    expect(await networks.get('net-a')).toMatchObject({ attachments: 5 });
  });

  it('gets a MAC alone where there is no subnet', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a' });
    expect(await addPort(northbound, value, 'web', 5555)).toEqual({ mac: expect.any(String), addresses: [] });
    const mac = '02:00:00:00:00:01';
    expect(await addPort(northbound, value, 'db', 5556, { mac })).toEqual({ mac, addresses: [] });
    await box.current.addSwitch('theirs');
    const adopted = await networks.adopt('theirs', {});
    expect(await addPort(northbound, adopted, 'web', 5557)).toEqual({ mac: expect.any(String), addresses: [] });
  });

  it('is told when the subnet is full, and gets an address when one is free again', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/29', gateway: '10.9.0.1' });
    for (let i = 0; i < 5; i++) await addPort(northbound, value, `web${i}`, 5555 + i);
    expect(await failureOf(addPort(northbound, value, 'more', 6000))).toMatchObject({
      code: 'ports-exhausted',
      details: { subnet: '10.9.0.0/29' },
    });
    await removePort(northbound, 'more/net-a');
    await removePort(northbound, 'web2/net-a');
    expect(await addPort(northbound, value, 'more', 6000)).toMatchObject({ addresses: ['10.9.0.4'] });
  });

  it('takes nothing that another has', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value: a } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    const { value: b } = await networks.create({ name: 'net-b', subnet: '10.9.1.0/24' });
    const drawn = await addPort(northbound, a, 'web', 5555);
    const given = { mac: '02:00:00:00:00:01', address: '10.9.0.50' };
    await addPort(northbound, a, 'db', 5556, given);
    const rows = await northboundRows(box.current);
    const refused = [
      [a, 'web', 6000, {}, 'attachment-conflict'],
      [b, 'web', 5555, {}, 'endpoint-in-use'],
      [a, 'new', 6000, { mac: drawn.mac }, 'mac-in-use'],
      [b, 'new', 6000, { mac: given.mac }, 'mac-in-use'],
      [a, 'new', 6000, { address: drawn.addresses[0] }, 'address-in-use'],
      [a, 'new', 6000, { address: given.address }, 'address-in-use'],
    ] as const;
    for (const [network, container, port, wanted, code] of refused) {
      expect(await failureOf(addPort(northbound, network, container, port, wanted))).toMatchObject({ code });
    }
    expect(await northboundRows(box.current)).toBe(rows);
  });

  it('keyed by the container alone, a second network overwrote the first: here both are there', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    for (const [i, name] of ['net-a', 'net-b'].entries()) {
      const { value } = await networks.create({ name, subnet: `10.9.${i}.0/24` });
      await addPort(northbound, value, 'web', 5555 + i);
    }
    expect(northbound.view().ports.map(({ name }) => name)).toEqual(['web/net-a', 'web/net-b']);
    expect(northbound.view().ports.map((port) => port.network)).toEqual(['net-a', 'net-b']);
  });

  it('detach deleted another name than attach had made: here the rows are then as they were', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    const rows = await northboundRows(box.current);
    await addPort(northbound, value, 'web', 5555);
    expect(await failureOf(networks.remove('net-a'))).toMatchObject({
      code: 'network-busy',
      details: { logicalPorts: ['web/net-a'] },
    });
    expect(await removePort(northbound, 'web/net-a')).toBe(true);
    expect(await northboundRows(box.current)).toBe(rows);
  });

  it('of somebody else is never removed', async () => {
    const { northbound } = openTestNorthbound(box.current);
    await box.current.nbctl('ls-add', 'theirs', '--', 'lsp-add', 'theirs', 'their-port');
    await northbound.waitFor(({ ports }) => ports[0], 'the port', call);
    expect(await removePort(northbound, 'their-port')).toBe(false);
    expect(await box.current.nbctl('lsp-list', 'theirs')).toContain('their-port');
  });

  it('50 of them at once from two sides, some with the same address: no duplicate', async () => {
    const sides = [openTestNorthbound(box.current), openTestNorthbound(box.current)];
    const network = await sides[0]?.networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    if (network === undefined) throw new Error('no side');
    const results = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const { northbound } = sides[i % 2] as { northbound: Northbound };
        const given = i % 5 === 0 ? { address: '10.9.0.200' } : {};
        return addPort(northbound, network.value, `web${i}`, 5000 + i, given).catch((error: unknown) => error);
      }),
    );
    const drawn = results.filter((result) => !(result instanceof Error)) as { mac: string; addresses: string[] }[];
    expect(drawn).toHaveLength(41);
    expect(new Set(drawn.flatMap(({ addresses }) => addresses)).size).toBe(41);
    expect(new Set(drawn.map(({ mac }) => mac)).size).toBe(41);
    for (const error of results.filter((result) => result instanceof Error)) {
      expect(error).toMatchObject({ code: 'address-in-use' });
    }
  });
});

describe('restarts', () => {
  it('of ovsdb-server by SIGKILL: connects again, and everything is there', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    const before = await addPort(northbound, value, 'web', 5555);
    const states: boolean[] = [];
    northbound.onChange(() => states.push(northbound.isConnected()));
    await box.current.restart('ovn-northbound');
    expect(await networks.get('net-a')).toMatchObject({ vlan: 100, attachments: 1 });
    expect(states).toContain(false);
    expect((await networks.create({ name: 'net-b' })).value.vlan).toBe(101);
    const port = northbound.view().ports[0];
    expect(await northbound.waitForAddresses(port?.uuid ?? '', call)).toEqual(before);
    await northbound.sync(call);
  });

  it('of northd by SIGKILL: what it has drawn stays', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    const before = await addPort(northbound, value, 'web', 5555);
    await box.current.kill('ovn-northd');
    const error = await failureOf(northbound.sync({ timeoutMs: scaled(200) }));
    expect(error).toMatchObject({ code: 'northbound-timeout', details: { daemon: 'ovn-northd' } });
    await northbound.echo(call);
    await box.current.start('ovn-northd');
    await northbound.sync(call);
    expect(await northbound.waitForAddresses(northbound.view().ports[0]?.uuid ?? '', call)).toEqual(before);
    expect(await addPort(northbound, value, 'db', 5556)).toMatchObject({ addresses: ['10.9.0.3'] });
  });

  it('no server: says so, and does not wait long', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    await networks.list();
    await box.current.kill('ovn-northbound');
    box.current.defer(() => box.current.start('ovn-northbound'));
    expect(await failureOf(within(networks.create({ name: 'net-a' }), 'an answer', 3_000))).toMatchObject({
      code: 'northbound-unreachable',
    });
    expect(() => northbound.view()).toThrow(expect.objectContaining({ code: 'northbound-unreachable' }));
  });

  it('a server that hangs: what was told to have failed does not come later', async () => {
    const { northbound, networks } = openTestNorthbound(box.current);
    const { value } = await networks.create({ name: 'net-a', subnet: '10.9.0.0/24' });
    await northbound.sync(call);
    const rows = await northboundRows(box.current);
    await box.current.pause('ovn-northbound');
    box.current.defer(() => box.current.resume('ovn-northbound'));
    const spec = portSpec(value, 'web', 5555, {});
    const failed = failureOf(northbound.createPort(() => ({ write: spec }), { timeoutMs: scaled(300) }));
    const behind = failureOf(
      northbound.createPort(() => ({ write: portSpec(value, 'db', 5556, {}) }), { timeoutMs: 100 }),
    );
    expect(await behind).toMatchObject({ code: 'northbound-timeout' });
    expect(await failed).toMatchObject({ code: 'northbound-timeout' });
    await box.current.resume('ovn-northbound');
    await northbound.sync(call);
    expect(northbound.view().ports).toEqual([]);
    expect(await northboundRows(box.current)).toBe(rows);
    expect((await networks.create({ name: 'net-b' })).created).toBe(true);
  });
});

function portSpec(
  network: Network,
  container: string,
  port: number,
  given: { readonly mac?: string | undefined; readonly address?: string | undefined },
): LogicalPortSpec {
  const endpoint = { transport: 'vsock', port } as const;
  return {
    switchUuid: network.id,
    name: logicalPortName(container, network.name),
    ...given,
    externalIds: {
      'arca-container': container,
      'arca-network': network.name,
      'arca-endpoint': streamEndpointText(endpoint),
      'arca-tap': tapName(endpoint, container, network.name),
    },
  };
}

async function addPort(
  northbound: Northbound,
  network: Network,
  container: string,
  port: number,
  given: { readonly mac?: string | undefined; readonly address?: string | undefined } = {},
) {
  const spec = portSpec(network, container, port, given);
  const { row } = await northbound.createPort(() => ({ write: spec }), call);
  return northbound.waitForAddresses(row.uuid, call);
}

async function removePort(northbound: Northbound, name: string): Promise<boolean> {
  const port = northbound.view().ports.find((candidate) => candidate.name === name);
  if (port === undefined) throw new Error(`no port ${name}`);
  return northbound.removePort(port.uuid, call);
}
