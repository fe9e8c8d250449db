/** Views of a northbound database that is not there. */
import type { LogicalPortView, LogicalSwitchView, NorthboundView } from '../../src/ovn/northbound-view.js';

export function switchView(row: Partial<LogicalSwitchView> & { readonly name: string }): LogicalSwitchView {
  return { uuid: `uuid-${row.name}`, externalIds: {}, otherConfig: {}, ports: [], isOurs: true, ...row };
}

export function portView(row: Partial<LogicalPortView> & { readonly name: string }): LogicalPortView {
  return {
    uuid: `uuid-${row.name}`,
    type: '',
    addresses: ['dynamic'],
    dynamicAddresses: '',
    externalIds: {},
    network: 'net-a',
    switchUuid: 'uuid-net-a',
    isOurs: true,
    ...row,
  };
}

export function northboundView(view: Partial<NorthboundView> = {}): NorthboundView {
  return { switches: [], ports: [], globalIds: {}, nbCfg: 0, sbCfg: 0, ...view };
}
