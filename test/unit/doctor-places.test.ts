import { describe, expect, it } from 'vitest';
import { readPlaces } from '../../src/doctor/places.js';

const given = { runDir: '/run/arca', bridge: 'br-int' };

describe('readPlaces', () => {
  it('looks where ovn-nbctl and ovn-sbctl look', () => {
    expect(readPlaces(given, undefined, {})).toMatchObject({
      northbound: { transport: 'unix', path: '/var/run/ovn/ovnnb_db.sock' },
      southbound: { transport: 'unix', path: '/var/run/ovn/ovnsb_db.sock' },
    });
    expect(readPlaces(given, undefined, { OVN_RUNDIR: '/r', OVN_SB_DB: 'tcp:127.0.0.1:6642' })).toMatchObject({
      northbound: { transport: 'unix', path: '/r/ovnnb_db.sock' },
      southbound: { transport: 'tcp', host: '127.0.0.1', port: 6642 },
    });
  });

  it('takes databases over TLS, with all three files or none', () => {
    const files = { privateKey: '/k', certificate: '/c', caCert: '/ca' };
    expect(readPlaces({ ...given, ...files, nb: 'ssl:192.0.2.1:6641' }, undefined, {}).northbound).toMatchObject({
      host: '192.0.2.1',
      port: 6641,
    });
    expect(() => readPlaces({ ...given, nb: 'ssl:192.0.2.1:6641' }, undefined, {})).toThrow(/--private-key/);
    expect(() => readPlaces({ ...given, privateKey: '/k' }, undefined, {})).toThrow(/all of/);
  });
});
