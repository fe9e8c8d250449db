import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseTag,
  FIRST_ALLOCATED_TAG,
  findSwitch,
  planAdoption,
  planNetwork,
  planRemoval,
  readNetwork,
  readNetworks,
  requireAttachable,
} from '../../src/control/networks.js';
import { checkNetworkSpec } from '../../src/control/specs.js';
import { LAST_TAG } from '../../src/ovn/network-tag.js';
import type { NorthboundView } from '../../src/ovn/northbound-view.js';
import { northboundView, portView, switchView } from '../support/northbound-view.js';

function codeOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return (error as { code: unknown }).code;
  }
  return undefined;
}

/** The view after a network was written. */
function written(view: NorthboundView, spec: Parameters<typeof checkNetworkSpec>[0]): NorthboundView {
  const planned = planNetwork(view, checkNetworkSpec(spec));
  if (!('write' in planned)) throw new Error('it was there');
  return { ...view, switches: [...view.switches, switchView(planned.write)] };
}

const tagged = (name: string, tag: string | number, isOurs = true) =>
  switchView({ name, externalIds: { vlan_tag: String(tag) }, isOurs });

describe('chooseTag', () => {
  const range = LAST_TAG - FIRST_ALLOCATED_TAG + 1;

  it('gives the lowest that nobody has', () => {
    const tags = fc.uniqueArray(fc.integer({ min: 1, max: 4094 }), { maxLength: 300 });
    fc.assert(
      fc.property(tags, fc.boolean(), (taken, isOurs) => {
        const view = { switches: taken.map((tag) => tagged(`n${tag}`, tag, isOurs)) };
        const tag = chooseTag(view, undefined);
        expect(taken).not.toContain(tag);
        expect(tag).toBeGreaterThanOrEqual(FIRST_ALLOCATED_TAG);
        for (let lower = FIRST_ALLOCATED_TAG; lower < tag; lower++) expect(taken).toContain(lower);
      }),
    );
  });

  it('gives each of 100 to 4094 once, and then says that there is none', () => {
    const switches = Array.from({ length: range }, (_, i) => tagged(`n${i}`, FIRST_ALLOCATED_TAG + i));
    expect(codeOf(() => chooseTag({ switches }, undefined))).toBe('tags-exhausted');
    expect(chooseTag({ switches: switches.slice(0, -1) }, undefined)).toBe(LAST_TAG);
    expect(chooseTag({ switches }, 99)).toBe(99);
  });

  it('does not stumble over what is no tag', () => {
    const switches = ['', '0', '4095', '100 ', '0x64', 'abc'].map((tag, i) => tagged(`n${i}`, tag));
    expect(chooseTag({ switches }, undefined)).toBe(100);
    expect(codeOf(() => chooseTag({ switches: [tagged('n', 100)] }, 100))).toBe('tag-in-use');
  });
});

describe('planNetwork', () => {
  const spec = { name: 'net-a', subnet: '10.9.0.0/24', gateway: '10.9.0.1', dns: ['10.9.0.2', '1.1.1.1'], mtu: 1400 };

  it('writes what is read again', () => {
    const view = written(northboundView(), spec);
    expect(readNetwork(view, findSwitch(view, 'net-a'))).toMatchObject({ ...spec, vlan: 100, owner: 'arca' });
    expect(findSwitch(view, 'net-a').otherConfig['exclude_ips']).toBe('10.9.0.1 10.9.0.2');
  });

  it('keeps what is the same, from any specification', () => {
    const any = fc.record(
      {
        name: fc.constant('net-a'),
        vlan: fc.integer({ min: 1, max: 4094 }),
        subnet: fc.constantFrom('10.9.0.0/24', '192.168.0.0/16'),
        dns: fc.uniqueArray(fc.ipV4(), { maxLength: 3 }),
        mtu: fc.integer({ min: 68, max: 65521 }),
      },
      { requiredKeys: ['name'] },
    );
    fc.assert(
      fc.property(any, any, (one, other) => {
        const view = written(northboundView(), one);
        expect(planNetwork(view, checkNetworkSpec(one))).toHaveProperty('keep');
        const network = readNetwork(view, findSwitch(view, 'net-a'));
        const isSame =
          JSON.stringify([network.subnet, network.dns, network.mtu]) ===
          JSON.stringify([other.subnet ?? null, other.dns ?? [], other.mtu ?? 1500]);
        const isSameTag = other.vlan === undefined || other.vlan === network.vlan;
        const code = codeOf(() => planNetwork(view, checkNetworkSpec(other)));
        expect(code).toBe(isSame && isSameTag ? undefined : 'network-conflict');
      }),
    );
  });

  it('refuses a foreign switch of that name, two of them, and an overlap with anybody', () => {
    const foreign = switchView({ name: 'net-a', isOurs: false, otherConfig: { subnet: '10.9.0.0/16' } });
    expect(codeOf(() => planNetwork(northboundView({ switches: [foreign] }), checkNetworkSpec(spec)))).toBe(
      'network-foreign',
    );
    expect(codeOf(() => planNetwork(northboundView({ switches: [foreign, foreign] }), checkNetworkSpec(spec)))).toBe(
      'network-ambiguous',
    );
    const other = { ...foreign, name: 'other' };
    expect(codeOf(() => planNetwork(northboundView({ switches: [other] }), checkNetworkSpec(spec)))).toBe(
      'subnet-overlap',
    );
  });
});

describe('planAdoption', () => {
  it('adds what is missing and nothing else', () => {
    const plain = switchView({ name: 'x', isOurs: false });
    expect(planAdoption(northboundView({ switches: [plain, tagged('y', 100)] }), 'x', undefined)).toEqual({
      write: {
        row: plain,
        externalIds: { 'arca-owner': 'arca-control', vlan_tag: '101' },
        otherConfig: { mac_only: 'true' },
      },
    });
    const whole = switchView({
      name: 'x',
      isOurs: false,
      externalIds: { vlan_tag: '7' },
      otherConfig: { subnet: '10.0.0.0/24' },
    });
    expect(planAdoption(northboundView({ switches: [whole] }), 'x', 7)).toEqual({
      write: { row: whole, externalIds: { 'arca-owner': 'arca-control', vlan_tag: '7' }, otherConfig: {} },
    });
  });

  it('gives one of ours that has lost its tag a new one', () => {
    const lost = switchView({ name: 'x' });
    expect(planAdoption(northboundView({ switches: [lost] }), 'x', undefined)).toMatchObject({
      write: { externalIds: { vlan_tag: '100' } },
    });
  });
});

describe('what may be attached to and removed', () => {
  const ours = tagged('net-a', 100);
  const attachable = (row: typeof ours) =>
    codeOf(() => requireAttachable(northboundView({ switches: [row] }), 'net-a'));

  it('attaches to what is ours and has a tag', () => {
    expect(attachable(ours)).toBeUndefined();
    expect(attachable({ ...ours, isOurs: false })).toBe('network-foreign');
    expect(attachable({ ...ours, externalIds: {} })).toBe('tag-missing');
    expect(attachable({ ...ours, externalIds: { vlan_tag: 'x' } })).toBe('tag-invalid');
    expect(attachable({ ...ours, name: 'other' })).toBe('network-unknown');
  });

  it('removes what is ours and empty', () => {
    const busy = { ...ours, ports: ['uuid-web/net-a'] };
    const view = northboundView({ switches: [busy], ports: [portView({ name: 'web/net-a' })] });
    expect(codeOf(() => planRemoval(view, 'net-a'))).toBe('network-busy');
    expect(planRemoval(northboundView({ switches: [ours] }), 'net-a')).toBe(ours);
    expect(codeOf(() => planRemoval(northboundView({ switches: [{ ...ours, isOurs: false }] }), 'net-a'))).toBe(
      'network-foreign',
    );
  });

  it('counts attachments, which are ports of ours', () => {
    const ports = [
      portView({ name: 'a' }),
      portView({ name: 'b', isOurs: false }),
      portView({ name: 'c', switchUuid: 'x' }),
    ];
    const switches = [tagged('net-b', 101), ours];
    expect(
      readNetworks(northboundView({ switches, ports })).map(({ name, attachments }) => [name, attachments]),
    ).toEqual([
      ['net-a', 1],
      ['net-b', 0],
    ]);
  });

  it('shows a switch that somebody filled with nonsense', () => {
    const row = switchView({
      name: 'x',
      isOurs: false,
      externalIds: { vlan_tag: '9999', 'arca-mtu': 'big' },
      otherConfig: { subnet: 'fd00::/64', gateway: 'none' },
    });
    expect(readNetwork(northboundView(), row)).toMatchObject({
      vlan: null,
      subnet: null,
      gateway: null,
      mtu: 1500,
      dns: [],
    });
  });
});
