import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { logicalPortName, tapName } from '../../src/ovn/names.js';
import { readStreamEndpoint, type StreamEndpoint, streamEndpointText } from '../../src/stream-endpoint.js';

const container = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,20}$/);
const endpoint: fc.Arbitrary<StreamEndpoint> = fc.oneof(
  fc.record({ transport: fc.constant('vsock' as const), port: fc.integer({ min: 1, max: 0xfffffffe }) }),
  fc.record({ transport: fc.constant('unix' as const), path: fc.string({ minLength: 1 }) }),
);

describe('logicalPortName', () => {
  it('is different for different pairs, whatever somebody else called a switch', () => {
    fc.assert(
      fc.property(container, fc.string(), container, fc.string(), (c1, n1, c2, n2) => {
        expect(logicalPortName(c1, n1) === logicalPortName(c2, n2)).toBe(c1 === c2 && n1 === n2);
      }),
    );
  });
});

describe('tapName', () => {
  it('is what the design says', () => {
    expect(tapName({ transport: 'vsock', port: 5555 }, 'web', 'net-a')).toBe('tap5555');
    expect(tapName({ transport: 'unix', path: '/run/web.sock' }, 'web', 'net-a')).toBe('tap0f667ede');
  });

  it('is a name that the kernel takes, the same one each time', () => {
    fc.assert(
      fc.property(endpoint, container, fc.string(), (where, name, network) => {
        const tap = tapName(where, name, network);
        expect(tap).toMatch(/^tap[0-9a-f]{1,12}$/);
        expect(tapName(where, name, network)).toBe(tap);
      }),
    );
  });
});

describe('streamEndpointText', () => {
  it('is read again', () => {
    fc.assert(
      fc.property(endpoint, (where) => {
        expect(readStreamEndpoint(streamEndpointText(where))).toEqual(where);
      }),
    );
  });

  it.each(['', 'vsock:', 'vsock:0', 'vsock:2:5555', 'vsock:05', 'unix:', 'tcp:1', 'vsock:99999999999'])(
    '%j is no endpoint',
    (text) => expect(readStreamEndpoint(text)).toBeUndefined(),
  );
});
