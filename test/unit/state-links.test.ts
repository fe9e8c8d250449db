/** What is done to get the devices of a state file from what they are to what they should be. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ActualLinks,
  decodeRemembered,
  encodeRemembered,
  type LinkStep,
  planLinks,
  readAddressShow,
} from '../../src/state/links.js';
import type { DesiredLink } from '../../src/state/model.js';

const desired = (device: string, more: Partial<DesiredLink> = {}): DesiredLink => ({
  ...{ device, bridge: 'vmbr0', addresses: [], dhcp: false, up: true, mtu: undefined },
  ...more,
});

/** Devices that are up, with their addresses; leases of the DHCP clients that run. */
function actual(addresses: Record<string, readonly string[]>, dhcp: Record<string, string> = {}): ActualLinks {
  const links = Object.entries(addresses).map(
    ([device, list]) => [device, { device, isUp: true, mtu: 1500, addresses: list }] as const,
  );
  return { links: new Map(links), dhcp: new Map(Object.entries(dhcp)) };
}

const short = (steps: readonly LinkStep[]): string[] => steps.map((step) => Object.values(step).join(' '));
const none = new Map<string, readonly string[]>();

describe('planLinks', () => {
  it('makes of a new device what it should be, and remembers what it set', () => {
    const link = desired('in0', { addresses: ['10.0.0.1/24', 'fd00::1/64'], mtu: 1400, dhcp: true });
    const plan = planLinks([link], actual({}), none);
    expect(short(plan.steps)).toEqual([
      'set-mtu in0  1400',
      'set-up in0',
      'add-address in0 10.0.0.1/24',
      'add-address in0 fd00::1/64',
      'start-dhcp in0',
    ]);
    expect(plan.missing).toEqual(['in0']);
    expect(encodeRemembered(plan.remember)).toBe('in0=10.0.0.1/24,fd00::1/64');
  });

  it('does nothing where all is as it should be', () => {
    const link = desired('in0', { addresses: ['fd00::1/64'], dhcp: true, mtu: 1500 });
    const plan = planLinks(
      [link],
      actual({ in0: ['fd00::1/64', '10.0.0.9/24'] }, { in0: '10.0.0.9/24' }),
      new Map([['in0', ['fd00::1/64']]]),
    );
    expect(plan.steps).toEqual([]);
    expect(encodeRemembered(plan.remember)).toBe('in0=fd00::1/64');
  });

  it('removes only what it set, before it adds', () => {
    const is = actual({ in0: ['10.0.0.1/24', '10.0.0.7/24'] });
    const plan = planLinks([desired('in0', { addresses: ['10.0.0.2/24'] })], is, new Map([['in0', ['10.0.0.1/24']]]));
    expect(short(plan.steps)).toEqual(['remove-address in0 10.0.0.1/24', 'add-address in0 10.0.0.2/24']);
    expect(encodeRemembered(plan.remember)).toBe('in0=10.0.0.2/24');
  });

  it('does not remember an address that was there, and never removes it', () => {
    const is = actual({ in0: ['10.0.0.1/24'] });
    const plan = planLinks([desired('in0', { addresses: ['10.0.0.1/24'] })], is, none);
    expect([plan.steps, encodeRemembered(plan.remember)]).toEqual([[], '']);
    expect(planLinks([], is, plan.remember).steps).toEqual([]);
  });

  it('sets again what was lost, and forgets what somebody else removed', () => {
    const remembered = new Map([['in0', ['10.0.0.1/24', '10.0.0.2/24']]]);
    const plan = planLinks([desired('in0', { addresses: ['10.0.0.1/24'] })], actual({ in0: [] }), remembered);
    expect(short(plan.steps)).toEqual(['add-address in0 10.0.0.1/24']);
    expect(encodeRemembered(plan.remember)).toBe('in0=10.0.0.1/24');
  });

  it('cleans a device that is not named any more, and stops its DHCP client', () => {
    const is = actual({ in0: ['10.0.0.1/24', '10.0.0.9/24'], eth0: ['192.0.2.1/24'] }, { eth0: '192.0.2.1/24' });
    const plan = planLinks([], is, new Map([['in0', ['10.0.0.1/24']]]));
    expect(short(plan.steps)).toEqual(['stop-dhcp eth0', 'remove-address in0 10.0.0.1/24']);
    expect(encodeRemembered(plan.remember)).toBe('');
  });

  it('starts a DHCP client anew whose lease is not on the device', () => {
    const is = actual({ in0: [] }, { in0: '10.0.0.9/24' });
    expect(short(planLinks([desired('in0', { dhcp: true })], is, none).steps)).toEqual(['start-dhcp in0']);
  });

  it('warns of an address that another device has and keeps', () => {
    const link = desired('in0', { addresses: ['10.0.0.1/24'] });
    const is = actual({ in0: [], eth0: ['10.0.0.1/16'] });
    expect(planLinks([link], is, none).warnings).toEqual([
      '10.0.0.1/24 is to be set on in0, and eth0 has 10.0.0.1/16: neither works reliably',
    ]);
    // It moves from one to the other.
    const moved = planLinks([link], is, new Map([['eth0', ['10.0.0.1/16']]]));
    expect(short(moved.steps)).toEqual(['remove-address eth0 10.0.0.1/16', 'add-address in0 10.0.0.1/24']);
    expect(moved.warnings).toEqual([]);
  });

  it('sets a device down that should be', () => {
    expect(short(planLinks([desired('eth0', { up: false })], actual({ eth0: [] }), none).steps)).toEqual([
      'set-down eth0',
    ]);
  });
});

describe('what is remembered', () => {
  it('is read again as it was written', () => {
    const device = fc.stringMatching(/^[a-z_][a-z0-9_.-]{0,14}$/);
    const address = fc.constantFrom('10.0.0.1/24', '10.0.0.2/32', 'fd00::1/64', '::ffff:10.0.0.1/128');
    fc.assert(
      fc.property(fc.dictionary(device, fc.uniqueArray(address, { minLength: 1 })), (entries) => {
        const remembered = new Map(Object.entries(entries));
        expect(decodeRemembered(encodeRemembered(remembered))).toEqual(remembered);
      }),
    );
  });

  it.each(['', 'in0', 'in0=', 'in0=10.0.0.1', '=10.0.0.1/24', 'in 0=10.0.0.1/24', 'in0=FD00::1/64', ';;'])(
    'is nothing where somebody wrote %j',
    (text) => expect(decodeRemembered(text).size).toBe(0),
  );
});

it('reads what ip prints, without what the kernel makes for the link', () => {
  const text = JSON.stringify([
    {
      ...{ ifname: 'in0', flags: ['BROADCAST', 'UP'], mtu: 1500 },
      addr_info: [
        { family: 'inet', local: '10.0.0.1', prefixlen: 24, scope: 'global' },
        { family: 'inet6', local: 'FD00::1', prefixlen: 64, scope: 'global' },
        { family: 'inet6', local: 'fe80::1', prefixlen: 64, scope: 'link' },
      ],
    },
    { ifname: 'eth0', flags: [], mtu: 9000, addr_info: [] },
  ]);
  expect(readAddressShow(text)).toEqual([
    { device: 'in0', isUp: true, mtu: 1500, addresses: ['10.0.0.1/24', 'fd00::1/64'] },
    { device: 'eth0', isUp: false, mtu: 9000, addresses: [] },
  ]);
});
