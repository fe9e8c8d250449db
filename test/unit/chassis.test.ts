import { describe, expect, it } from 'vitest';
import { planChassis } from '../../src/control/chassis.js';
import { type ControllerSettings, readControllerSettings } from '../../src/ovn/local-controller.js';
import type { ChassisView } from '../../src/ovn/southbound.js';

const spec = { name: 'host-a', encapIp: '10.0.0.1' };
const REMOTE = 'unix:/run/ovn/ovnsb_db.sock';
const told: ControllerSettings = { systemId: 'host-a', remote: REMOTE, encapTypes: ['geneve'], encapIps: ['10.0.0.1'] };
const untold: ControllerSettings = { systemId: undefined, remote: undefined, encapTypes: [], encapIps: [] };

function chassisView(name: string, ip: string, type = 'geneve'): ChassisView {
  return { uuid: `uuid-${name}`, name, hostname: '', encaps: [{ type, ip }], hasOurMark: true };
}

function planned(existing: readonly ChassisView[], settings: ControllerSettings, isRunning: boolean): unknown {
  try {
    return planChassis(spec, existing, { settings, isRunning }, REMOTE).action;
  } catch (error) {
    return (error as { code: unknown }).code;
  }
}

describe('planChassis', () => {
  const ours = chassisView('host-a', '10.0.0.1');
  const cases: readonly [string, readonly ChassisView[], ControllerSettings, boolean, string][] = [
    ['nothing at all', [], untold, false, 'add'],
    ['another host', [chassisView('host-b', '10.0.0.2')], untold, false, 'add'],
    ['the same', [ours], untold, false, 'keep'],
    ['another name, same address', [chassisView('host-b', '10.0.0.1')], untold, false, 'chassis-conflict'],
    ['same name, another address', [chassisView('host-a', '10.0.0.2')], untold, false, 'chassis-conflict'],
    [
      'same name and address, another type',
      [chassisView('host-a', '10.0.0.1', 'vxlan')],
      untold,
      false,
      'chassis-conflict',
    ],
    ['set up as the same, not running', [], told, false, 'add'],
    ['set up as another, not running', [], { ...told, systemId: 'host-b' }, false, 'chassis-conflict'],
    ['another system-id alone', [], { ...untold, systemId: 'host-b' }, false, 'add'],
    ['set up as another, its own address', [], { ...told, systemId: 'b', encapIps: ['10.0.0.9'] }, false, 'add'],
    ['running, told nothing', [], untold, true, 'tell-controller'],
    ['running, told in part', [], { ...told, remote: undefined }, true, 'tell-controller'],
    ['running, told', [], told, true, 'wait'],
    ['running, registered', [ours], told, true, 'keep'],
    ['running as another', [], { ...told, systemId: 'host-b' }, true, 'chassis-conflict'],
    ['running with another address', [], { ...told, encapIps: ['10.0.0.9'] }, true, 'chassis-conflict'],
    ['running with another type', [], { ...told, encapTypes: ['vxlan'] }, true, 'chassis-conflict'],
    [
      'running with several',
      [],
      { ...told, encapIps: ['10.0.0.9', '10.0.0.1'], encapTypes: ['vxlan', 'geneve'] },
      true,
      'wait',
    ],
    ['running at another database', [], { ...told, remote: 'tcp:10.0.0.5:6642' }, true, 'chassis-conflict'],
    ['running at a cluster', [], { ...told, remote: `tcp:10.0.0.5:6642,${REMOTE}` }, true, 'wait'],
    ['running at one of our cluster', [], { ...told, remote: `${REMOTE}, tcp:10.0.0.6:6642` }, true, 'wait'],
    ['running, the other name of /run', [], { ...told, remote: 'unix:/var/run/ovn/ovnsb_db.sock' }, true, 'wait'],
  ];
  it.each(cases)('%s', (_name, existing, settings, isRunning, expected) => {
    expect(planned(existing, settings, isRunning)).toBe(expected);
  });
});

describe('readControllerSettings', () => {
  it('reads lists, and takes empty texts for nothing', () => {
    expect(readControllerSettings({})).toEqual(untold);
    expect(readControllerSettings({ 'system-id': '', 'ovn-remote': '', 'ovn-encap-ip': '' })).toEqual(untold);
    expect(readControllerSettings({ 'ovn-encap-type': 'geneve,vxlan', 'ovn-encap-ip': '10.0.0.1,10.0.0.2' })).toEqual({
      ...untold,
      encapTypes: ['geneve', 'vxlan'],
      encapIps: ['10.0.0.1', '10.0.0.2'],
    });
  });
});
