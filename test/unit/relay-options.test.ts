import { describe, expect, it } from 'vitest';
import { ArcaError, type ErrorCode } from '../../src/errors.js';
import type { Endpoint } from '../../src/native.js';
import { endpointText, type RelayArguments, readNotifyFd, readRelayOptions } from '../../src/relay/options.js';

const VSOCK_CID_ANY = 0xffffffff;

/** What commander fills in. */
const DEFAULTS = {
  offload: 'auto',
  busyPoll: '0',
  bridge: 'br-int',
  attach: 'vlan',
  mtu: '1500',
  onSecondPeer: 'refuse',
  timeout: '10',
};
const VSOCK = { port: '5555', network: 'net-a' };
const UNIX = { listen: 'unix:/run/x.sock', tap: 'tap-x', vlan: '100' };

/** Stands for the addon's, whose own tests are in C++. */
function parseEndpoint(text: string): Endpoint {
  const vsock = /^vsock:(?:(\d+):)?(\d+)$/.exec(text);
  if (vsock) {
    return {
      transport: 'vsock',
      cid: vsock[1] === undefined ? VSOCK_CID_ANY : Number(vsock[1]),
      port: Number(vsock[2]),
    };
  }
  if (text.startsWith('unix:/')) return { transport: 'unix', path: text.slice(5) };
  throw new Error(`'${text}' is neither vsock:[CID:]PORT nor unix:PATH`);
}

const read = (args: Partial<RelayArguments>) => readRelayOptions({ ...DEFAULTS, ...args }, parseEndpoint);

describe('readRelayOptions', () => {
  it('reads the shortest command line', () => {
    expect(read(VSOCK)).toEqual({
      role: 'listen',
      endpoint: { transport: 'vsock', cid: VSOCK_CID_ANY, port: 5555 },
      network: 'net-a',
      vlan: undefined,
      bridge: 'br-int',
      attach: 'vlan',
      tap: 'tap5555',
      mtu: 1500,
      allowedCids: [],
      onSecondPeer: 'refuse',
      burstBytes: 0,
      offload: 'auto',
      busyPollUs: 0,
      ovsSocketPath: undefined,
      nb: undefined,
      timeoutMs: 10_000,
      metrics: undefined,
      interfaceConfig: { mtu: 1500, addresses: [], gateways: [], dns: [] },
    });
  });

  it('reads everything', () => {
    expect(
      read({
        connect: 'vsock:7:5555',
        network: 'net a',
        vlan: '7',
        bridge: 'br-x',
        attach: 'auto',
        tap: 'web.0_1-2',
        mtu: '9000',
        onSecondPeer: 'replace',
        burst: '1',
        offload: 'uso',
        busyPoll: '50',
        ovs: 'unix:/o/db.sock',
        nb: 'tcp:[::1]:6641,ssl:h:6641',
        ...{ privateKey: '/k', certificate: '/c', caCert: '/ca' },
        timeout: '0.5',
        metrics: '[::1]:9100',
        peerMac: '02:00:00:00:00:0A',
        peerAddress: ['10.9.0.2/24', 'fd00::2/64'],
        peerGateway: ['10.9.0.1'],
        peerDns: ['fd00::1'],
      }),
    ).toMatchObject({
      role: 'dial',
      endpoint: { cid: 7, port: 5555 },
      network: 'net a',
      vlan: 7,
      tap: 'web.0_1-2',
      burstBytes: 1,
      offload: 'uso',
      busyPollUs: 50,
      ovsSocketPath: '/o/db.sock',
      nb: 'tcp:[::1]:6641,ssl:h:6641',
      tls: { privateKey: '/k', certificate: '/c', caCertificate: '/ca' },
      timeoutMs: 500,
      metrics: { transport: 'tcp', host: '::1', port: 9100 },
      interfaceConfig: {
        mtu: 9000,
        mac: '02:00:00:00:00:0a',
        addresses: ['10.9.0.2/24', 'fd00::2/64'],
        gateways: ['10.9.0.1'],
        dns: ['fd00::1'],
      },
    });
  });

  it('reads CIDs, Unix endpoints and metrics endpoints', () => {
    expect(read({ ...VSOCK, peerCid: ['3', '4'] }).allowedCids).toEqual([3, 4]);
    expect(read(UNIX)).toMatchObject({ role: 'listen', endpoint: { path: '/run/x.sock' }, tap: 'tap-x' });
    expect(read({ ...UNIX, metrics: 'unix:/run/m.sock' }).metrics).toEqual({ transport: 'unix', path: '/run/m.sock' });
    expect(read({ ...UNIX, metrics: 'localhost:9100' }).metrics).toMatchObject({ host: 'localhost', port: 9100 });
    expect(read({ port: '4294967294', vlan: '1' }).tap).toBe('tap4294967294');
  });

  it.each<[string, Partial<RelayArguments>, ErrorCode]>([
    ['no endpoint', { network: 'a' }, 'usage'],
    ['two endpoints', { ...VSOCK, listen: 'vsock:1' }, 'usage'],
    ['a bad endpoint', { listen: 'tcp:1', vlan: '1' }, 'usage'],
    ['dialling any CID', { connect: 'vsock:5', vlan: '1' }, 'usage'],
    ['port 0', { ...VSOCK, port: '0' }, 'usage'],
    ['port any', { ...VSOCK, port: '4294967295' }, 'usage'],
    ['port in hex', { ...VSOCK, port: '0x10' }, 'usage'],
    ['neither network nor tag', { port: '5' }, 'usage'],
    ['an empty network', { port: '5', network: '' }, 'usage'],
    ['control characters', { port: '5', network: 'a\nb' }, 'usage'],
    ['a long network', { port: '5', network: 'x'.repeat(256) }, 'usage'],
    ['tag 0', { port: '5', vlan: '0' }, 'tag-invalid'],
    ['tag 4095', { port: '5', vlan: '4095' }, 'tag-invalid'],
    ['a tag that is a word', { port: '5', vlan: 'red' }, 'tag-invalid'],
    ['an odd bridge', { ...VSOCK, bridge: '-x' }, 'usage'],
    ['a bridge that is a path', { ...VSOCK, bridge: '../x' }, 'usage'],
    ['attach ovn', { ...VSOCK, attach: 'ovn' }, 'attach-unsupported'],
    ['attach else', { ...VSOCK, attach: 'x' }, 'usage'],
    ['Unix without a TAP name', { listen: 'unix:/x', vlan: '1' }, 'usage'],
    ['a TAP name of 16', { ...UNIX, tap: 'x'.repeat(16) }, 'tap-name-invalid'],
    ['a TAP name of 8 that is 16 bytes', { ...UNIX, tap: 'ü'.repeat(8) }, 'tap-name-invalid'],
    ['no TAP name', { ...UNIX, tap: '' }, 'tap-name-invalid'],
    ['a TAP pattern', { ...UNIX, tap: 'tap%d' }, 'tap-name-invalid'],
    ['a TAP option', { ...UNIX, tap: '-tap' }, 'tap-name-invalid'],
    ['a TAP path', { ...UNIX, tap: 'a/b' }, 'tap-name-invalid'],
    ['TAP .', { ...UNIX, tap: '.' }, 'tap-name-invalid'],
    ['TAP all', { ...UNIX, tap: 'all' }, 'tap-name-invalid'],
    ['MTU 67', { ...VSOCK, mtu: '67' }, 'usage'],
    ['MTU 65536', { ...VSOCK, mtu: '65536' }, 'usage'],
    ['a CID on Unix', { ...UNIX, peerCid: ['3'] }, 'usage'],
    ['a CID when dialling', { connect: 'vsock:3:5', vlan: '1', peerCid: ['3'] }, 'usage'],
    ['CID any', { ...VSOCK, peerCid: ['4294967295'] }, 'usage'],
    ['an odd policy', { ...VSOCK, onSecondPeer: 'kill' }, 'usage'],
    ['an unknown offload', { ...VSOCK, offload: 'on' }, 'usage'],
    ['a busy poll of more than 10 ms', { ...VSOCK, busyPoll: '10001' }, 'usage'],
    ['a busy poll below 0', { ...VSOCK, busyPoll: '-1' }, 'usage'],
    ['burst 0', { ...VSOCK, burst: '0' }, 'usage'],
    ['a huge burst', { ...VSOCK, burst: '262145' }, 'usage'],
    ['ovs by TCP', { ...VSOCK, ovs: 'tcp:1.2.3.4:6640' }, 'usage'],
    ['a long ovs path', { ...VSOCK, ovs: `unix:/${'x'.repeat(107)}` }, 'usage'],
    ['an odd nb', { ...VSOCK, nb: '/run/nb.sock' }, 'usage'],
    ['an nb that wants keys', { ...VSOCK, nb: 'ssl:h:6641' }, 'usage'],
    ['keys that are not all there', { ...VSOCK, privateKey: '/k' }, 'usage'],
    ['an nb without a port', { ...VSOCK, nb: 'tcp:host' }, 'usage'],
    ['timeout 0', { ...VSOCK, timeout: '0' }, 'usage'],
    ['timeout -1', { ...VSOCK, timeout: '-1' }, 'usage'],
    ['timeout x', { ...VSOCK, timeout: '1e3' }, 'usage'],
    ['an odd metrics endpoint', { ...VSOCK, metrics: '9100' }, 'usage'],
    ['metrics port 0', { ...VSOCK, metrics: 'h:0' }, 'usage'],
    ['a multicast MAC', { ...VSOCK, peerMac: '01:00:00:00:00:01' }, 'usage'],
    ['no MAC', { ...VSOCK, peerMac: '02:00' }, 'usage'],
    ['an address without a length', { ...VSOCK, peerAddress: ['10.0.0.1'] }, 'usage'],
    ['a length of 33', { ...VSOCK, peerAddress: ['10.0.0.1/33'] }, 'usage'],
    ['an odd gateway', { ...VSOCK, peerGateway: ['10.0.0'] }, 'usage'],
    ['DNS by name', { ...VSOCK, peerDns: ['dns.example'] }, 'usage'],
  ])('refuses %s', (_what, args, code) => {
    let thrown: unknown;
    try {
      read(args);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ArcaError);
    expect((thrown as ArcaError).code).toBe(code);
  });
});

describe('readNotifyFd', () => {
  it('takes a descriptor, or none', () => {
    expect(readNotifyFd('3')).toBe(3);
    expect(readNotifyFd(undefined)).toBeUndefined();
    expect(() => readNotifyFd('0')).toThrow(ArcaError);
    expect(() => readNotifyFd('x')).toThrow(ArcaError);
  });
});

describe('endpointText', () => {
  it.each(['vsock:5555', 'vsock:7:5555', 'unix:/run/x.sock'])('writes what was read: %s', (text) => {
    expect(endpointText(parseEndpoint(text))).toBe(text);
  });
});
