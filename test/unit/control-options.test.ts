import { describe, expect, it } from 'vitest';
import { type ControlArguments, DEFAULT_VSOCK_PORTS, readControlOptions } from '../../src/control/options.js';
import { parseEndpoint } from '../../src/native.js';

const DEFAULTS: ControlArguments = {
  socketGroup: 'arca',
  runDir: '/run/arca',
  bridge: 'br-int',
  vsockPorts: DEFAULT_VSOCK_PORTS,
};

const read = (args: Partial<ControlArguments> = {}, env: NodeJS.ProcessEnv = {}) =>
  readControlOptions({ ...DEFAULTS, ...args }, env, parseEndpoint);

describe('readControlOptions', () => {
  it('has defaults for all', () => {
    expect(read()).toEqual({
      paths: ['/run/arca/control.sock'],
      vsock: [],
      allowedCids: [],
      socketGroup: 'arca',
      service: {
        runDir: '/run/arca',
        ovsSocketPath: undefined,
        northbound: { transport: 'unix', path: '/var/run/ovn/ovnnb_db.sock' },
        southbound: { transport: 'unix', path: '/var/run/ovn/ovnsb_db.sock' },
        chassis: undefined,
        vsockPorts: { first: 5000, last: 9999 },
        bridge: 'br-int',
      },
    });
  });

  it('looks for the databases as the tools of OVN do', () => {
    const env = { OVN_NB_DB: 'tcp:[::1]:6641', OVN_RUNDIR: '/tmp/ovn' };
    expect(read({}, env).service).toMatchObject({
      northbound: { transport: 'tcp', host: '::1', port: 6641 },
      southbound: { transport: 'unix', path: '/tmp/ovn/ovnsb_db.sock' },
    });
    expect(read({ nb: 'unix:/nb', sb: 'tcp:db:6642', ovs: 'unix:/ovs' }, env).service).toMatchObject({
      ovsSocketPath: '/ovs',
      northbound: { transport: 'unix', path: '/nb' },
      southbound: { transport: 'tcp', host: 'db', port: 6642 },
    });
  });

  it('takes clusters, with keys for TLS', () => {
    const keys = { privateKey: '/k', certificate: '/c', caCert: '/ca' };
    expect(read({ nb: 'ssl:a:6641,tcp:b:6641', sb: 'ssl:[::1]:6642', ...keys }).service).toMatchObject({
      northbound: {
        transport: 'cluster',
        servers: [
          { transport: 'ssl', host: 'a' },
          { transport: 'tcp', host: 'b' },
        ],
      },
      southbound: { transport: 'ssl', host: '::1', port: 6642, files: { caCertificate: '/ca' } },
    });
  });

  it('listens on several, and always on a Unix socket', () => {
    expect(read({ listen: ['unix:/a', 'unix:/a', 'unix:/b'] }).paths).toEqual(['/a', '/b']);
    const vsock = read({ listen: ['vsock:4900'], peerCid: ['2', '3'], runDir: '/tmp/x' });
    expect(vsock).toMatchObject({ paths: ['/tmp/x/control.sock'], allowedCids: [2, 3] });
    expect(vsock.vsock).toMatchObject([{ transport: 'vsock', port: 4900 }]);
  });

  it('takes a chassis with its address', () => {
    expect(read({ chassis: 'host-1', encapIp: '192.0.2.1' }).service.chassis).toEqual({
      name: 'host-1',
      encapIp: '192.0.2.1',
    });
  });

  it.each<[string, Partial<ControlArguments>]>([
    ['--listen', { listen: ['tcp:1'] }],
    ['--listen', { listen: ['unix:'] }],
    ['--vsock-ports', { listen: ['vsock:5000'], peerCid: ['2'] }],
    ['--peer-cid', { listen: ['vsock:4900'] }],
    ['--peer-cid', { peerCid: ['2'] }],
    ['--peer-cid', { listen: ['vsock:4900'], peerCid: ['x'] }],
    ['--run-dir', { runDir: `/${'x'.repeat(120)}` }],
    ['--ovs', { ovs: '/db.sock' }],
    ['--nb', { nb: 'ssl:db:1' }],
    ['--nb', { nb: 'tcp:a:1,' }],
    ['--ca-cert', { privateKey: '/k', certificate: '/c' }],
    ['--sb', { sb: 'tcp:db:0' }],
    ['--bridge', { bridge: '-x' }],
    ['--chassis', { chassis: 'host-1' }],
    ['--encap-ip', { encapIp: '192.0.2.1' }],
    ['--vsock-ports', { vsockPorts: '5000' }],
    ['--vsock-ports', { vsockPorts: '6000-5000' }],
    ['--vsock-ports', { vsockPorts: '5000-6000-7000' }],
    ['--vsock-ports', { vsockPorts: '80-90' }],
  ])('names %s when it is wrong: %j', (option, args) => {
    expect(() => read(args)).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringContaining(option) }),
    );
  });
});
