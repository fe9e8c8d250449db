import { describe, expect, it } from 'vitest';
import type { AttachmentSpec, NetworkSpec } from '../../src/control/model.js';
import { checkAddress, checkAttachmentSpec, checkChassisSpec, checkNetworkSpec } from '../../src/control/specs.js';

/** The property that is complained about. */
function refusal(check: () => unknown): unknown {
  try {
    check();
  } catch (error) {
    expect(error).toMatchObject({ code: 'spec-invalid' });
    return (error as { details: { property: unknown } }).details.property;
  }
  return undefined;
}

describe('checkNetworkSpec', () => {
  it('leaves nothing open but the tag', () => {
    expect(checkNetworkSpec({ name: 'net-a' })).toEqual({
      ...{ name: 'net-a', vlan: undefined, subnet: undefined, gateway: undefined },
      ...{ dns: [], mtu: 1500 },
    });
    const whole = { name: 'n', vlan: 7, subnet: '10.9.0.0/24', gateway: '10.9.0.1', dns: ['1.1.1.1'], mtu: 9000 };
    expect(checkNetworkSpec(whole)).toEqual(whole);
    expect(checkNetworkSpec({ name: 'n', dns: ['FD00::1'] }).dns).toEqual(['fd00::1']);
  });

  const subnet = '10.9.0.0/24';
  const refused: readonly [Partial<NetworkSpec>, string][] = [
    ...['', ' ', '-a', '.', '..', 'a b', 'a/b', 'a%', 'ä', 'a\n', 'x'.repeat(129)].map(
      (name) => [{ name }, 'name'] as [Partial<NetworkSpec>, string],
    ),
    ...[0, 4095, 5000, -1, 1.5, Number.NaN].map((vlan) => [{ vlan }, 'vlan'] as [Partial<NetworkSpec>, string]),
    ...[67, 65522, 1500.5].map((mtu) => [{ mtu }, 'mtu'] as [Partial<NetworkSpec>, string]),
    ...[
      '10.9.0.1/24',
      '10.9.0.0',
      '10.0.0.0/7',
      '10.9.0.0/31',
      'fd00::/64',
      '127.0.0.0/8',
      '224.0.0.0/8',
      '0.0.0.0/8',
      '240.0.0.0/8',
    ].map((text) => [{ subnet: text }, 'subnet'] as [Partial<NetworkSpec>, string]),
    ...['10.9.0.0', '10.9.0.255', '10.9.1.1', '10.9.0.1/24', 'x'].map(
      (gateway) => [{ subnet, gateway }, 'gateway'] as [Partial<NetworkSpec>, string],
    ),
    [{ gateway: '10.9.0.1' }, 'gateway'],
    ...[['x'], ['1.1.1.1', '1.1.1.1'], ['fe80::1%eth0'], Array.from({ length: 9 }, (_, i) => `1.1.1.${i}`)].map(
      (dns) => [{ dns }, 'dns'] as [Partial<NetworkSpec>, string],
    ),
  ];
  it.each(refused)('refuses %j', (wrong, property) => {
    expect(refusal(() => checkNetworkSpec({ name: 'net-a', ...wrong }))).toBe(property);
  });
});

describe('checkAttachmentSpec', () => {
  const least = { container: 'web', network: 'net-a' };

  it('takes what is well-formed', () => {
    expect(checkAttachmentSpec(least)).toEqual({
      ...{ ...least, endpoint: undefined, mac: undefined, address: undefined, peerCids: undefined },
    });
    const whole: AttachmentSpec = {
      ...least,
      network: 'a name that somebody else gave',
      endpoint: { transport: 'vsock', port: 5555 },
      mac: '02:AB:00:00:00:01',
      address: '10.9.0.2',
      peerCids: [3, 4],
    };
    expect(checkAttachmentSpec(whole)).toEqual({ ...whole, mac: '02:ab:00:00:00:01' });
    const unix = { ...least, endpoint: { transport: 'unix', path: '/run/web.sock' } } as const;
    expect(checkAttachmentSpec(unix)).toMatchObject(unix);
  });

  it.each([
    [{ container: '' }, 'container'],
    [{ container: 'web/net-a' }, 'container'],
    [{ network: '' }, 'network'],
    [{ network: 'a\u0000b' }, 'network'],
    [{ mac: '02:00:00:00:00' }, 'mac'],
    [{ mac: '02-00-00-00-00-01' }, 'mac'],
    [{ mac: '01:00:5e:00:00:01' }, 'mac'],
    [{ mac: 'ff:ff:ff:ff:ff:ff' }, 'mac'],
    [{ mac: '00:00:00:00:00:00' }, 'mac'],
    [{ address: '10.9.0.2/24' }, 'address'],
    [{ address: 'dynamic' }, 'address'],
    [{ endpoint: { transport: 'vsock', port: 0 } }, 'endpoint'],
    [{ endpoint: { transport: 'vsock', port: 0xffffffff } }, 'endpoint'],
    [{ endpoint: { transport: 'unix', path: 'web.sock' } }, 'endpoint'],
    [{ endpoint: { transport: 'unix', path: `/${'x'.repeat(107)}` } }, 'endpoint'],
    [{ endpoint: { transport: 'unix', path: '/run/x' }, peerCids: [3] }, 'peerCids'],
    [{ peerCids: [-1] }, 'peerCids'],
    [{ peerCids: [3, 3] }, 'peerCids'],
    [{ peerCids: [0xffffffff] }, 'peerCids'],
  ] as [Partial<AttachmentSpec>, string][])('refuses %j', (wrong, property) => {
    expect(refusal(() => checkAttachmentSpec({ ...least, ...wrong }))).toBe(property);
  });
});

describe('checkAddress', () => {
  const network = { name: 'net-a', subnet: '10.9.0.0/24', gateway: '10.9.0.1' };
  it('takes a host of the subnet', () => {
    for (const address of ['10.9.0.2', '10.9.0.254'])
      expect(refusal(() => checkAddress(address, network))).toBeUndefined();
    expect(refusal(() => checkAddress('10.9.0.1', { ...network, gateway: null }))).toBeUndefined();
  });

  it.each(['10.9.0.0', '10.9.0.255', '10.9.0.1', '10.9.1.2', '10.8.255.255'])('refuses %s', (address) => {
    expect(refusal(() => checkAddress(address, network))).toBe('address');
  });

  it('refuses any where there is no subnet', () => {
    expect(refusal(() => checkAddress('10.9.0.2', { ...network, subnet: null }))).toBe('address');
  });
});

describe('checkChassisSpec', () => {
  it('takes names and addresses of both families', () => {
    expect(checkChassisSpec({ name: 'c', encapIp: 'FD00::1' })).toEqual({ name: 'c', encapIp: 'fd00::1' });
    expect(refusal(() => checkChassisSpec({ name: 'a b', encapIp: '10.0.0.1' }))).toBe('name');
    expect(refusal(() => checkChassisSpec({ name: 'c', encapIp: 'host' }))).toBe('encapIp');
    expect(refusal(() => checkChassisSpec({ name: 'c', encapIp: 'fe80::1%eth0' }))).toBe('encapIp');
  });
});
