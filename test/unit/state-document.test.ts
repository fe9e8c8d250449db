/** The state file: what is accepted, what is made of it, and that each mistake is told in its place. */
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArcaError } from '../../src/errors.js';
import { hostProblem, overlap, readAddress } from '../../src/state/addresses.js';
import { type DocumentProblem, readStateDocument, type StateDocument } from '../../src/state/document.js';
import { readJson } from '../../src/state/document-json.js';
import { stateSchemaText } from '../../src/state/schema.js';

const EXAMPLE = readFileSync(new URL('../../docs/examples/state.json', import.meta.url), 'utf8');

/** With `network` in the place of the example's. */
function stateText(network: object): string {
  return JSON.stringify({ version: 1, plugins: { network } }, undefined, 2);
}

function read(network: object): StateDocument {
  return readStateDocument(stateText(network), 'state.json');
}

/** `LINE:COLUMN POINTER MESSAGE`, the pointer from the network on. */
function problemsOf(text: string): string[] {
  try {
    readStateDocument(text, 'state.json');
  } catch (error) {
    if (!(error instanceof ArcaError) || error.code !== 'state-invalid') throw error;
    const errors = error.details?.['errors'] as DocumentProblem[];
    expect(error.message.split('\n')).toHaveLength(errors.length);
    return errors.map(shortText);
  }
  return [];
}

function shortText({ line, column, pointer, message }: DocumentProblem): string {
  return `${line}:${column} ${pointer.replace('$.plugins.network.', '')}: ${message}`;
}

/** Of one that is wrong; without places, which depend on how the test prints it. */
function mistakes(network: object): string[] {
  return problemsOf(stateText(network)).map((text) => text.replace(/^\d+:\d+ /, ''));
}

const bridge = (entry: object): object => ({ bridges: [{ name: 'vmbr0', ...entry }] });

describe('the example of the origin document', () => {
  it('is accepted as printed', () => {
    const { state, warnings } = readStateDocument(EXAMPLE, 'state.json');
    expect(warnings).toEqual([]);
    const port = { options: {}, tag: undefined, trunks: [], externalIds: {} };
    const vmbr0 = {
      ...{ name: 'vmbr0', datapathType: 'system', tag: undefined },
      ports: [
        { ...port, name: 'eth0', type: '' },
        { ...port, name: 'vmbr0-if', type: 'internal' },
      ],
      flows: [
        { text: 'priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop', line: 15 },
        { text: 'priority=50,actions=normal', line: 16 },
      ],
    };
    const vmbr1 = {
      ...{ name: 'vmbr1', datapathType: 'system', tag: undefined },
      ports: [{ ...port, name: 'vmbr1-if', type: 'internal' }],
      flows: undefined,
    };
    const link = { dhcp: false, mtu: undefined, up: true };
    expect(state).toEqual({
      bridges: [vmbr0, vmbr1],
      links: [
        { ...link, device: 'vmbr0-if', bridge: 'vmbr0', addresses: ['10.0.0.1/24'] },
        { ...link, device: 'eth0', bridge: 'vmbr0', addresses: [] },
        { ...link, device: 'vmbr1-if', bridge: 'vmbr1', addresses: ['10.0.1.1/24'] },
      ],
      ovsdb: {
        socketPath: '/var/run/openvswitch/db.sock',
        databasePath: '/etc/openvswitch/conf.db',
        timeoutMs: 30_000,
        persist: true,
      },
    });
  });
});

it('the example of docs/state-file.md is accepted', () => {
  const page = readFileSync(new URL('../../docs/state-file.md', import.meta.url), 'utf8');
  const [, example = ''] = /```json\n(.*?)```/s.exec(page) ?? [];
  const { state, warnings } = readStateDocument(example, 'state.json');
  expect(warnings).toEqual([]);
  expect(state.links.map(({ device }) => device)).toEqual(['vmbr0-if', 'eth0', 'eth1']);
});

describe('what is made of a state file', () => {
  it('has defaults for all that is left out', () => {
    expect(read({}).state).toEqual({
      bridges: [],
      links: [],
      ovsdb: { socketPath: undefined, databasePath: undefined, timeoutMs: 30_000, persist: true },
    });
    const { state } = read(bridge({}));
    expect(state.bridges).toEqual([
      { name: 'vmbr0', datapathType: 'system', ports: [], tag: undefined, flows: undefined },
    ]);
    expect(state.links).toEqual([]);
  });

  it("gives address and vlan to the bridge's own device where there is no internal port", () => {
    const { state } = read(bridge({ address: '10.0.0.1/24', vlan: 7 }));
    expect(state.bridges[0]).toMatchObject({ tag: 7, ports: [] });
    expect(state.links).toMatchObject([{ device: 'vmbr0', bridge: 'vmbr0', addresses: ['10.0.0.1/24'] }]);
  });

  it('gives them to the first internal port where there are some', () => {
    const { state } = read(bridge({ internal_ports: ['a', { name: 'b', tag: 9 }], dhcp: true, vlan: 7 }));
    expect(state.bridges[0]).toMatchObject({
      tag: undefined,
      ports: [
        { name: 'a', type: 'internal', tag: 7 },
        { name: 'b', type: 'internal', tag: 9 },
      ],
    });
    expect(state.links).toMatchObject([
      { device: 'a', dhcp: true },
      { device: 'b', dhcp: false },
    ]);
  });

  it('takes a port as an object', () => {
    const ports = [
      { name: 'eth1', type: 'system', trunks: [30, 10], external_ids: { rack: '7' } },
      { name: 'vx1', type: 'vxlan', options: { remote_ip: '192.0.2.1' } },
    ];
    const { state } = read(bridge({ ports }));
    expect(state.bridges[0]?.ports).toEqual([
      { name: 'eth1', type: '', trunks: [10, 30], tag: undefined, options: {}, externalIds: { rack: '7' } },
      { name: 'vx1', type: 'vxlan', trunks: [], tag: undefined, options: { remote_ip: '192.0.2.1' }, externalIds: {} },
    ]);
    // A tunnel has no device that could be set up.
    expect(state.links.map(({ device }) => device)).toEqual(['eth1']);
  });

  it('joins an interface with the port of the same name', () => {
    const network = {
      ...bridge({ ports: ['eth1'], internal_ports: ['in0'], address: '10.0.0.1/24' }),
      interfaces: [
        { name: 'eth1', address: ['10.2.0.1/24', 'FD00:0::1/64'], mtu: 1400 },
        { name: 'in0' },
        { name: 'eth2', up: false },
      ],
    };
    expect(read(network).state.links).toEqual([
      { device: 'in0', bridge: 'vmbr0', addresses: ['10.0.0.1/24'], dhcp: false, up: true, mtu: undefined },
      {
        device: 'eth1',
        bridge: 'vmbr0',
        addresses: ['10.2.0.1/24', 'fd00::1/64'],
        dhcp: false,
        up: true,
        mtu: 1400,
      },
      { device: 'eth2', bridge: undefined, addresses: [], dhcp: false, up: false, mtu: undefined },
    ]);
  });

  it('looks after flows only with auto_apply_defaults, and says so', () => {
    const rules = ['priority=50,actions=normal'];
    const off = read(bridge({ openflow: { default_rules: rules } }));
    expect(off.state.bridges[0]?.flows).toBeUndefined();
    expect(off.warnings.map(shortText)).toEqual([
      '9:30 bridges[0].openflow.default_rules: these rules are not applied, for auto_apply_defaults is not true',
    ]);
    const none = read(bridge({ openflow: { auto_apply_defaults: true, default_rules: [] } }));
    expect(none.state.bridges[0]?.flows).toEqual([]);
  });

  it('warns of other plugins and of subnets that overlap, and goes on', () => {
    const text = `{"version": 1, "plugins": {
      "dns": {"servers": []},
      "network": {"interfaces": [
        {"name": "a", "address": "10.0.0.1/16"},
        {"name": "b", "address": "10.0.3.1/24"}
      ]}
    }}`;
    const { warnings } = readStateDocument(text, 'state.json');
    expect(warnings.map(shortText)).toEqual([
      '2:7 $.plugins.dns: this plugin is not looked at; arca knows network and no other',
      '5:34 interfaces[1].address: the subnet of 10.0.3.1/24 overlaps that of 10.0.0.1/16 of a (line 4): ' +
        'one of the two gets no traffic',
    ]);
  });
});

describe('a mistake in the syntax', () => {
  it.each([
    ['', '1:1 $: the file is empty'],
    [
      '{\n  "version": 1,\n}',
      '3:1 $: this is no JSON: "}" is here, where a key in double quotes is expected (a comma too many?)',
    ],
    ['{\n  // why\n}', '2:3 $: this is no JSON: comments are not allowed'],
    ['{"version" 1}', '1:12 $: this is no JSON: "1" is here, where a colon is expected'],
    ['{"version": 1', '1:14 $: this is no JSON: the end of the file is here, where "}" or a comma is expected'],
    ['{} {}', '1:4 $: this is no JSON: "{" stands after its end'],
    ['{"version": 1,\r\n "version": 1}', '2:2 $.version: the key stands twice, first in line 1'],
    ['['.repeat(100_000), '1:65 $: is nested deeper than 64 levels'],
  ])('%j', (text, problem) => expect(problemsOf(text)).toEqual([problem]));

  it('is one for us where it is one for JSON.parse', () => {
    const unit = fc.constantFrom(...'{}[]":,0123456789eE+-.\\u/* \n\t\rtruefalsn\u00a0\ufeff\u0001');
    const broken = fc.tuple(fc.json(), fc.nat(), unit).map(([text, place, letter]) => {
      const at = place % (text.length + 1);
      return text.slice(0, at) + letter + text.slice(at + (place % 2));
    });
    fc.assert(
      fc.property(fc.oneof(broken, fc.string({ unit })), (text) => {
        const ours = readJson(text);
        let theirs: unknown;
        try {
          theirs = JSON.parse(text);
        } catch {
          expect(ours).toHaveProperty('problems');
          return;
        }
        // Keys that stand twice are legal to JSON.parse.
        if ('problems' in ours) expect(ours.problems[0]?.message).toMatch(/stands twice/);
        else expect(ours.value).toEqual(theirs);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a mistake in the schema', () => {
  it('is told where it stands, each of them', () => {
    const text = [
      '{ "version": "1",',
      '  "plugins": { "network": {',
      '    "bridges": [{',
      '      "nam": "vmbr0",',
      '      "datapath_type": "kernel",',
      '      "ports": ["-x", {"name": "x", "tag": "5", "options": {"key": 5}}, 7],',
      '      "vlan": 4095, "dhcp": null',
      '    }],',
      '    "ovsdb": {"timeout_seconds": 0}',
      '} } }',
    ].join('\n');
    const name = 'a device name: 1 to 15 letters, digits, "_", "." and "-", and no "-" or "." first';
    const port = `${name}; or an object with name, tag, trunks, type, options, external_ids`;
    expect(problemsOf(text)).toEqual([
      '1:14 $.version: the text "1" is here; expected the number 1, without quotes',
      `3:17 bridges[0].name: is missing; expected ${name}`,
      '4:7 bridges[0].nam: there is no such key; did you mean name?',
      '5:24 bridges[0].datapath_type: the text "kernel" is here; ' +
        'expected "system" (the kernel\'s datapath) or "netdev" (vswitchd\'s own)',
      `6:17 bridges[0].ports[0]: the text "-x" is here; expected ${port}`,
      '6:44 bridges[0].ports[1].tag: the text "5" is here; expected a whole number from 1 to 4094, without quotes',
      '6:68 bridges[0].ports[1].options.key: the number 5 is here; ' +
        'expected a text; numbers and true or false are written in quotes, too',
      `6:73 bridges[0].ports[2]: the number 7 is here; expected ${port}`,
      '7:15 bridges[0].vlan: the number 4095 is here; expected a whole number from 1 to 4094',
      '7:29 bridges[0].dhcp: null is here; expected true or false',
      '9:34 ovsdb.timeout_seconds: the number 0 is here; expected a number of seconds, more than 0 and at most 3600',
    ]);
  });

  it.each([
    ['a file for nothing', '{"version": 1}', '1:1 $.plugins: is missing; expected an object with network'],
    ['a list', '[]', '1:1 $: a list is here; expected an object with version and plugins'],
    [
      'a plugin of a wrong kind',
      '{"version":1,"plugins":{"network":[]}}',
      '1:35 $.plugins.network: a list is here; expected an object with bridges, interfaces, ovsdb',
    ],
    [
      'a key like no other',
      '{"version":1,"plugins":{"network":{"zork":1}}}',
      '1:36 zork: there is no such key; expected one of bridges, interfaces, ovsdb',
    ],
    [
      '__proto__',
      '{"version":1,"plugins":{"network":{"__proto__":{}}}}',
      '1:36 __proto__: there is no such key; expected one of bridges, interfaces, ovsdb',
    ],
  ])('%s', (_, text, problem) => expect(problemsOf(text)).toEqual([problem]));
});

describe('a mistake in what it means', () => {
  it.each<[string, object, string]>([
    [
      'br-int',
      { bridges: [{ name: 'br-int' }] },
      'bridges[0].name: br-int belongs to the relays; give the bridge another name',
    ],
    [
      "a relay's TAP",
      bridge({ ports: ['tap5555'] }),
      'bridges[0].ports[0]: tap5555 is a name that relays give their TAPs; take another',
    ],
    [
      "a Unix relay's TAP",
      { interfaces: [{ name: 'tap0f667ede' }] },
      'interfaces[0].name: tap0f667ede is a name that relays give their TAPs; take another',
    ],
    [
      'all',
      bridge({ ports: [{ name: 'all' }] }),
      'bridges[0].ports[0].name: "all" means something else to the kernel or to OVS',
    ],
    ['lo', bridge({ ports: ['lo'] }), 'bridges[0].ports[0]: the loopback device is no port of a bridge'],
    [
      'a bridge twice',
      { bridges: [{ name: 'a' }, { name: 'a' }] },
      'bridges[1].name: there is a bridge a already (line 7)',
    ],
    [
      'a port twice',
      {
        bridges: [
          { name: 'a', ports: ['x'] },
          { name: 'b', internal_ports: ['x'] },
        ],
      },
      'bridges[1].internal_ports[0]: x is a port of bridge a already (line 9)',
    ],
    [
      'a port that is a bridge',
      { bridges: [{ name: 'a', ports: ['b'] }, { name: 'b' }] },
      'bridges[0].ports[0]: b is the name of a bridge (line 13)',
    ],
    [
      'a port that is its bridge',
      bridge({ internal_ports: ['vmbr0'] }),
      'bridges[0].internal_ports[0]: OVS makes the port vmbr0 of bridge vmbr0 by itself; leave it out',
    ],
    [
      'an internal port of another type',
      bridge({ internal_ports: [{ name: 'a', type: 'vxlan' }] }),
      'bridges[0].internal_ports[0].type: an internal port has the type internal, not vxlan; move it to ports',
    ],
    [
      'a patch port without its peer',
      bridge({ ports: [{ name: 'a', type: 'patch' }] }),
      'bridges[0].ports[0].options: a patch port wants its other end: options.peer, the name of a patch port',
    ],
    [
      'tag and trunks',
      bridge({ ports: [{ name: 'a', tag: 1, trunks: [2] }] }),
      'bridges[0].ports[0].trunks: tag 1 and trunks do not go together: an access port has a tag, a trunk has trunks',
    ],
    [
      'a trunk twice',
      bridge({ ports: [{ name: 'a', trunks: [2, 2] }] }),
      'bridges[0].ports[0].trunks[1]: 2 stands twice',
    ],
    [
      'our marks',
      bridge({ ports: [{ name: 'a', external_ids: { 'arca-owner': 'me' } }] }),
      'bridges[0].ports[0].external_ids["arca-owner"]: marks that begin with arca- are arca\'s own',
    ],
    [
      'vlan and another tag',
      bridge({ vlan: 7, internal_ports: [{ name: 'a', tag: 8 }] }),
      'bridges[0].vlan: 7 is the VLAN of internal port a, which has tag 8; give one of them',
    ],
    [
      'vlan and trunks',
      bridge({ vlan: 7, internal_ports: [{ name: 'a', trunks: [8] }] }),
      'bridges[0].vlan: 7 would be the tag of internal port a, which has trunks; leave one out',
    ],
    [
      'dhcp and an IPv4 address',
      bridge({ dhcp: true, address: '10.0.0.1/24' }),
      'bridges[0].address: an IPv4 address and dhcp do not go together: DHCP clients remove what they did not set',
    ],
    [
      'dhcp and down',
      { interfaces: [{ name: 'a', dhcp: true, up: false }] },
      'interfaces[0].up: a device that is down gets no lease by dhcp: leave one of the two out',
    ],
    [
      'an address twice',
      { interfaces: [{ name: 'a', address: ['10.0.0.1/24', '10.0.0.1/16'] }] },
      'interfaces[0].address[1]: 10.0.0.1/16 stands twice',
    ],
    [
      'an address on two devices',
      {
        interfaces: [
          { name: 'a', address: 'FD00::1/64' },
          { name: 'b', address: 'fd00:0::1/48' },
        ],
      },
      'interfaces[1].address: fd00::1/48 is an address of another device: fd00::1/64 of a (line 8)',
    ],
    [
      'no length',
      bridge({ address: '10.0.0.1' }),
      'bridges[0].address: "10.0.0.1" has no length of a prefix; write 10.0.0.1/24',
    ],
    [
      'a device in two places',
      { ...bridge({ address: '10.0.0.1/24' }), interfaces: [{ name: 'vmbr0', dhcp: true }] },
      'interfaces[0].name: vmbr0 gets its address in line 6 already; give it in one place',
    ],
    [
      'the MTU of what OVS makes',
      { ...bridge({ internal_ports: ['in0'] }), interfaces: [{ name: 'in0', mtu: 1400 }] },
      'interfaces[0].mtu: OVS gives in0 the least MTU of the other ports of its bridge; leave it out',
    ],
    [
      'dhcp and down, in two places',
      { ...bridge({ dhcp: true }), interfaces: [{ name: 'vmbr0', up: false }] },
      'interfaces[0].up: a device that is down gets no lease by dhcp: leave one of the two out',
    ],
    [
      'an interface twice',
      { interfaces: [{ name: 'a' }, { name: 'a' }] },
      'interfaces[1].name: a stands among the interfaces already',
    ],
    [
      'a cookie',
      bridge({ openflow: { default_rules: ['priority=1,cookie=0x5,actions=drop'] } }),
      "bridges[0].openflow.default_rules[0]: leave the cookie out: the flows get arca's own",
    ],
    [
      'two flows in one',
      bridge({ openflow: { default_rules: ['actions=drop\nactions=normal'] } }),
      'bridges[0].openflow.default_rules[0]: a flow is one line, without control characters',
    ],
  ])('%s', (_, network, problem) => expect(mistakes(network)).toEqual([problem]));
});

describe('an address', () => {
  it.each([
    ['10.0.0.1/24', '10.0.0.1/24'],
    ['10.0.0.0/31', '10.0.0.0/31'],
    ['10.0.0.7/32', '10.0.0.7/32'],
    ['FD00:0:0::00A/64', 'fd00::a/64'],
    ['::ffff:10.0.0.1/128', '::ffff:10.0.0.1/128'],
  ])('%s is %s', (text, canonical) => {
    const address = readAddress(text);
    if ('problem' in address) throw new Error(address.problem);
    expect(address.text).toBe(canonical);
    expect(hostProblem(address)).toBeUndefined();
  });

  it.each([
    '',
    '10.0.0.1',
    '10.0.0.01/24',
    '10.0.0/24',
    '10.0.0.1/33',
    '10.0.0.1/024',
    '10.0.0.1/24/',
    '10.0.0.1/ 24',
    'fd00::1/129',
    'fe80::1%eth0/64',
    'web/24',
    '10.0.0.0/24',
    '10.0.0.255/24',
    '127.0.0.1/8',
    '224.0.0.1/24',
    '0.0.0.0/0',
    '::/128',
    '::1/128',
    'ff02::1/64',
    'fe80::1/64',
    'fd00::/64',
  ])('%j is none that a device may have', (text) => {
    const address = readAddress(text);
    expect('problem' in address ? address.problem : hostProblem(address)).toBeTypeOf('string');
  });

  it.each([
    ['10.0.0.1/24', '10.0.0.200/28', true],
    ['10.0.0.1/24', '10.0.1.1/24', false],
    ['10.0.0.1/0', '192.0.2.1/32', true],
    ['fd00::1/64', 'fd00::ffff:0:0:1/64', true],
    ['fd00::1/64', 'fd00:0:0:1::1/64', false],
    ['10.0.0.1/0', 'fd00::1/0', false],
  ])('%s and %s overlap: %s', (one, other, expected) => {
    const [first, second] = [readAddress(one), readAddress(other)];
    if ('problem' in first || 'problem' in second) throw new Error('no address');
    expect(overlap(first, second)).toBe(expected);
    expect(overlap(second, first)).toBe(expected);
  });
});

describe('docs/state.schema.json', () => {
  const text = readFileSync(new URL('../../docs/state.schema.json', import.meta.url), 'utf8');
  // Types in a list and their keywords are what a port is; see schema.ts.
  const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true, strictTypes: false }).compile(
    JSON.parse(text),
  );

  it('is what the code says; run scripts/state-schema.mjs after a build when it is not', () => {
    expect(text).toBe(stateSchemaText());
  });

  it('takes the example', () => expect(validate(JSON.parse(EXAMPLE))).toBe(true));

  it('accepts and refuses what our reader does, but for what parts mean beside each other', () => {
    const junk = fc.constantFrom<unknown[]>(
      null,
      true,
      'x',
      '',
      'a b',
      '/x',
      '7',
      0,
      1,
      1.5,
      4095,
      -1,
      [],
      {},
      ['x'],
      [5],
    );
    const or = <T>(value: fc.Arbitrary<T>) =>
      fc.oneof({ arbitrary: value, weight: 12 }, { arbitrary: junk, weight: 1 });
    const name = fc.stringMatching(/^[a-z_][a-z0-9_.-]{0,15}$/);
    const port = {
      name: or(name),
      tag: or(fc.integer({ min: 0, max: 4096 })),
      trunks: or(fc.array(fc.integer({ min: 1, max: 4094 }), { maxLength: 2 })),
      type: or(fc.constantFrom('internal', 'vxlan')),
      options: or(fc.dictionary(fc.string(), fc.string(), { maxKeys: 2 })),
      external_ids: or(fc.dictionary(fc.string(), fc.string(), { maxKeys: 2 })),
      zork: junk,
    };
    const ports = or(fc.array(or(fc.oneof(name, fc.record(port, { requiredKeys: ['name'] }))), { maxLength: 2 }));
    const rules = {
      auto_apply_defaults: or(fc.boolean()),
      default_rules: or(fc.array(or(fc.constant('actions=drop')))),
    };
    const address = or(fc.oneof(fc.constant('10.0.0.1/24'), fc.array(fc.constant('10.0.0.1/24'), { maxLength: 1 })));
    const entry = {
      ...{ name: or(name), datapath_type: or(fc.constant('netdev')), ports, internal_ports: ports, address },
      ...{
        dhcp: or(fc.boolean()),
        vlan: or(fc.constant(7)),
        openflow: or(fc.record(rules, { requiredKeys: [] })),
        nam: junk,
      },
    };
    const device = {
      name: or(name),
      address,
      up: or(fc.boolean()),
      mtu: or(fc.constant(1500)),
      dhcp: or(fc.boolean()),
    };
    const ovsdb = { socket_path: or(fc.constant('/x')), timeout_seconds: or(fc.double()), persist: or(fc.boolean()) };
    const network = {
      bridges: or(fc.array(fc.record(entry, { requiredKeys: ['name'] }), { maxLength: 2 })),
      interfaces: or(fc.array(fc.record(device, { requiredKeys: ['name'] }), { maxLength: 2 })),
      ovsdb: or(fc.record(ovsdb, { requiredKeys: [] })),
    };
    const file = fc.record({
      version: or(fc.constant(1)),
      plugins: or(fc.record({ network: or(fc.record(network, { requiredKeys: [] })) })),
    });
    const seen = { accepted: 0, refused: 0 };
    fc.assert(
      fc.property(file, (value) => {
        const text = JSON.stringify(value);
        const isValid = validate(JSON.parse(text));
        const problems = problemsOf(text);
        const ofSchema = problems.filter((problem) => /; expected |there is no such key/.test(problem));
        seen[isValid ? 'accepted' : 'refused'] += 1;
        expect(ofSchema.length === 0).toBe(isValid);
      }),
      { numRuns: 2000 },
    );
    expect(seen.accepted).toBeGreaterThan(100);
    expect(seen.refused).toBeGreaterThan(100);
  });
});
