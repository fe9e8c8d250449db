import { describe, expect, it } from 'vitest';
import { offloadsFor } from '../../src/relay/offloads.js';

const ALL = ['checksum', 'tso4', 'tso6'];

describe('offloadsFor', () => {
  it.each([
    ['auto', 'system', false, ALL],
    ['auto', 'system', true, ALL],
    ['auto', 'netdev', false, []],
    ['auto', 'netdev', true, ALL],
    ['auto', 'dummy', true, []],
    ['uso', 'system', false, [...ALL, 'uso']],
    ['uso', 'netdev', true, ALL],
    ['off', 'system', false, []],
    ['off', 'netdev', true, []],
  ] as const)('%s, datapath %s, userspace TSO %s', (mode, datapathType, userspaceTso, expected) => {
    expect(offloadsFor(mode, { datapathType, userspaceTso })).toEqual(expected);
  });
});
