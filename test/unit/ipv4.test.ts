import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cidrText,
  contains,
  ipv4Text,
  isHost,
  overlaps,
  readCidr,
  readIpv4,
  type Subnet,
} from '../../src/control/ipv4.js';

const address = fc.integer({ min: 0, max: 0xffffffff });
const subnet: fc.Arbitrary<Subnet> = fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([any, length]) => {
  const read = readCidr(`${ipv4Text(any)}/${length}`);
  if (read === undefined) throw new Error('not read');
  return read;
});

describe('addresses', () => {
  it('are read as they are written', () => {
    fc.assert(
      fc.property(address, (number) => {
        expect(readIpv4(ipv4Text(number))).toBe(number);
      }),
    );
    expect(readIpv4('10.9.0.1')).toBe(0x0a090001);
  });

  it.each(['', '10.9.0', '10.9.0.256', '010.9.0.1', '10.9.0.1/24', ' 10.9.0.1', '10.9.0.1.2', '::1', '1e1.0.0.0'])(
    '%j is none',
    (text) => expect(readIpv4(text)).toBeUndefined(),
  );
});

describe('subnets', () => {
  it('know their ends', () => {
    const read = readCidr('10.9.0.0/24');
    expect(read).toEqual({ first: 0x0a090000, last: 0x0a0900ff, prefixLength: 24, hasHostBits: false });
    expect(readCidr('10.9.0.1/24')).toEqual({ ...read, hasHostBits: true });
    expect(readCidr('0.0.0.0/0')).toMatchObject({ first: 0, last: 0xffffffff });
    expect(readCidr('255.255.255.255/32')).toMatchObject({ first: 0xffffffff, last: 0xffffffff });
  });

  it.each(['10.9.0.0', '10.9.0.0/33', '10.9.0.0/024', '10.9.0.0/', '10.9.0.0/-1', 'fd00::/64'])(
    '%j is none',
    (text) => {
      expect(readCidr(text)).toBeUndefined();
    },
  );

  it('are written as they are read', () => {
    fc.assert(
      fc.property(subnet, (one) => {
        expect(readCidr(cidrText(one))).toEqual({ ...one, hasHostBits: false });
      }),
    );
  });

  it('overlap if one has an end of the other', () => {
    fc.assert(
      fc.property(subnet, subnet, (one, other) => {
        expect(overlaps(one, other)).toBe(contains(one, other.first) || contains(other, one.first));
        expect(overlaps(one, other)).toBe(overlaps(other, one));
      }),
    );
  });

  it('have hosts between their ends only', () => {
    fc.assert(
      fc.property(subnet, address, (one, number) => {
        expect(isHost(one, number)).toBe(contains(one, number) && number !== one.first && number !== one.last);
      }),
    );
  });
});
