/** How the doctor looks: facts with deadlines, checks that can't look, and what is read from tools. */
import { describe, expect, it } from 'vitest';
import { renderExamination } from '../../src/cli/arca/doctor.js';
import { defineCheck, worstOf } from '../../src/doctor/check.js';
import { checksOf, chooseChecks } from '../../src/doctor/doctor.js';
import { createFacts, type Readers } from '../../src/doctor/facts.js';
import { failureOf } from '../../src/doctor/read/daemon.js';
import { parseLinks, parsePacketSockets } from '../../src/doctor/read/links.js';
import { viewOf } from '../../src/doctor/read/ovs.js';
import { isRelay, statusPathOf } from '../../src/doctor/read/relays.js';
import type { Finding, Verdict } from '../../src/finding.js';
import { RpcError } from '../../src/ovsdb/json-rpc.js';

const readers = (some: Partial<Readers>): Readers => some as Readers;
const check = defineCheck({
  ...{ id: 'tun-device', title: 'TAP devices', group: 'host', needs: ['tun'] },
  judge: ({ tun }) => [{ verdict: 'ok', subject: 'tun', evidence: tun.state }],
});

describe('facts', () => {
  it('are read once, whoever asks', async () => {
    let reads = 0;
    const facts = createFacts(
      readers({
        tun: async () => {
          reads++;
          return { state: 'opens' };
        },
      }),
      { timeoutMs: 1_000 },
    );
    expect(await Promise.all([check.run(facts), check.run(facts)])).toMatchObject([
      [{ verdict: 'ok' }],
      [{ verdict: 'ok' }],
    ]);
    expect(reads).toBe(1);
  });

  it('that never come: unknown at the deadline, and what rests on them too', async () => {
    const facts = createFacts(
      readers({ tun: () => new Promise(() => {}), vsock: async ({ need }) => (await need('tun')) as never }),
      { timeoutMs: 80 },
    );
    const startedAt = performance.now();
    expect(await check.run(facts)).toEqual([
      {
        id: 'tun-device',
        title: 'TAP devices',
        verdict: 'unknown',
        subject: 'TAP devices',
        evidence: 'the time is over (--timeout)',
      },
    ]);
    expect(await facts.get('vsock')).toMatchObject({ known: false });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });

  it('that can not be had say why, to what rests on them too', async () => {
    const failing = async (): Promise<never> => {
      throw new Error('nobody there');
    };
    const facts = createFacts(readers({ tun: failing, vsock: async ({ need }) => (await need('tun')) as never }), {
      timeoutMs: 1_000,
    });
    expect(await check.run(facts)).toMatchObject([{ verdict: 'unknown', evidence: 'nobody there' }]);
    expect(await facts.get('vsock')).toEqual({ known: false, why: 'nobody there' });
  });
});

describe('checks', () => {
  const all = checksOf({ bridge: 'br-int', runDir: '/run/arca' });

  it('have names of their own, in the order of the groups', () => {
    const ids = all.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect([...new Set(all.map(({ group }) => group))]).toEqual(['host', 'daemons', 'bridge', 'ports', 'networks']);
  });

  it('are chosen by name', () => {
    expect(chooseChecks(all, ['mtu', 'tags']).map(({ id }) => id)).toEqual(['tags', 'mtu']);
    expect(chooseChecks(all, [])).toEqual(all);
    expect(() => chooseChecks(all, ['mtu', 'nope'])).toThrow("no check 'nope'");
  });

  it.each<[Verdict[], Verdict]>([
    [[], 'ok'],
    [['ok', 'note'], 'note'],
    [['note', 'unknown', 'ok'], 'unknown'],
    [['unknown', 'warning'], 'warning'],
    [['problem', 'warning'], 'problem'],
  ])('%s: the worst is %s', (verdicts, worst) => {
    const findings = verdicts.map((verdict) => ({ id: 'x', title: 'x', verdict, subject: 'x', evidence: 'x' }));
    expect(worstOf(findings)).toBe(worst);
  });
});

describe('what is read', () => {
  it('a daemon that is gone, that died, that hangs, that is not for us', () => {
    const errno = (code: string) =>
      new RpcError('unreachable', 'm', { cause: Object.assign(new Error(code), { code }) });
    const states = [
      errno('ENOENT'),
      errno('ECONNREFUSED'),
      errno('EACCES'),
      new RpcError('timed-out', 'm'),
      new RpcError('refused', 'm'),
    ];
    expect(states.map((error) => failureOf(error, 'unix:/x').state)).toEqual([
      'gone',
      'dead',
      'denied',
      'hangs',
      'strange',
    ]);
    expect(() => failureOf(new TypeError('ours'), 'unix:/x')).toThrow('ours');
  });

  it('packet sockets of vswitchd, not those of others, nor of devices that are gone', () => {
    const table = [
      'sk               RefCnt Type Proto  Iface R Rmem   User   Inode',
      '00000000e7ddac5e 3      3    0003   4     1 0      0      8335835',
      '00000000e7ddac5f 3      3    0003   5     1 0      0      99',
      '00000000e7ddac60 2      3    0003   -1    0 0      0      8335836',
    ].join('\n');
    const devices = parsePacketSockets(table, new Set(['8335835', '8335836']));
    expect(devices.has(4)).toBe(true);
    expect(devices.has(5)).toBe(false);
  });

  it('ports, one for each interface, with their bridge', () => {
    const { ports, bridges } = viewOf(
      { other_config: ['map', [['a', 'b']]] },
      [{ name: 'br-int', datapath_type: '', fail_mode: ['set', []], ports: ['uuid', 'p'] }],
      [
        {
          _uuid: ['uuid', 'p'],
          name: 'bond0',
          tag: ['set', []],
          interfaces: [
            'set',
            [
              ['uuid', 'i'],
              ['uuid', 'j'],
            ],
          ],
        },
      ],
      [
        { _uuid: ['uuid', 'i'], name: 'eth1', type: '', ofport: 3, error: ['set', []] },
        { _uuid: ['uuid', 'j'], name: 'eth2', type: '', ofport: ['set', []], error: 'gone' },
      ],
    );
    expect(bridges).toEqual([{ name: 'br-int', datapathType: 'system', failMode: '' }]);
    expect(ports).toMatchObject([
      { name: 'bond0', device: 'eth1', bridge: 'br-int', datapathType: 'system', ofport: 3, error: '', isOurs: false },
      { name: 'bond0', device: 'eth2', ofport: undefined, error: 'gone' },
    ]);
  });

  it('links, as ip prints them', () => {
    const printed = JSON.stringify([
      { ifindex: 1, ifname: 'lo', flags: ['LOOPBACK', 'UP'], mtu: 65536, addr_info: [{ local: '127.0.0.1' }] },
      {
        ...{ ifindex: 9, ifname: 'tap1', flags: ['BROADCAST', 'NOARP'], mtu: 1500, addr_info: [] },
        linkinfo: { info_kind: 'tun', info_data: { persist: true, vnet_hdr: true }, info_slave_kind: 'openvswitch' },
      },
    ]);
    expect(parseLinks(printed)).toMatchObject([
      { name: 'lo', kind: '', isUp: true, hasArp: true, addresses: ['127.0.0.1'] },
      {
        ifindex: 9,
        kind: 'tun',
        isUp: false,
        hasArp: false,
        isPersistent: true,
        hasVnetHeader: true,
        isOvsSlave: true,
      },
    ]);
  });

  it.each<[string[], boolean]>([
    [['/usr/bin/node', '/opt/dist/cli/arca-relay.js', '--port', '1'], true],
    [['node', '--no-warnings', '/usr/local/bin/arca-relay'], true],
    [['arca-relay', '--port', '1'], true],
    [['vi', 'arca-relay.js'], false],
    [['node', 'other.js', 'arca-relay.js'], false],
    [[], false],
  ])('%j is a relay: %s', (args, expected) => expect(isRelay(args)).toBe(expected));

  it('the status socket, however it is written', () => {
    expect(statusPathOf(['x', '--metrics=unix:/run/a.sock'])).toBe('/run/a.sock');
    expect(statusPathOf(['x', '--metrics', 'unix:/run/a.sock'])).toBe('/run/a.sock');
    expect(statusPathOf(['x', '--metrics', '127.0.0.1:9000'])).toBeUndefined();
    expect(statusPathOf(['x'])).toBeUndefined();
  });
});

describe('what is printed', () => {
  const finding = (verdict: Verdict, more: Partial<Finding> = {}): Finding => ({
    ...{ id: 'check', title: 'Title', verdict, subject: 'it', evidence: 'seen' },
    ...more,
  });
  const plain = { isColoured: false, widthColumns: undefined, isQuiet: false };
  const examination = (findings: readonly Finding[]) => ({ worst: worstOf(findings), findings, fixes: [] });

  it('one reason that kept several checks from looking is told once', () => {
    const findings = [
      finding('unknown', { id: 'a' }),
      finding('unknown', { id: 'b' }),
      finding('problem', { mend: 'do it' }),
    ];
    expect(renderExamination(examination(findings), plain)).toEqual([
      ...['problem  it (check)', '         seen', '         mend: do it'],
      ...['unknown  a, b', '         seen'],
      '1 problem, 2 could not be looked at',
    ]);
  });

  it('nothing that comes from outside reaches the terminal as it is', () => {
    const lines = renderExamination(
      examination([finding('warning', { subject: 'port \u001b[31m', evidence: 'a\nb' })]),
      plain,
    );
    expect(lines.join('\n')).not.toContain('\u001b');
    expect(lines).toContain('         a\\nb');
  });

  it('quiet: only what is wrong, and nothing at all where nothing is', () => {
    const quiet = { ...plain, isQuiet: true };
    expect(renderExamination(examination([finding('ok'), finding('note')]), quiet)).toEqual([]);
    expect(renderExamination(examination([finding('ok'), finding('warning')]), quiet)).toHaveLength(3);
  });
});
