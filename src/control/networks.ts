/**
 * Networks: logical switches with a VLAN tag. Every decision is a pure function of what the northbound database holds.
 */
import type { Northbound } from '../ovn/northbound.js';
import type { LogicalSwitchView, NorthboundView } from '../ovn/northbound-view.js';
import type { Made, Network, NetworkSpec } from './model.js';

export interface Networks {
  list(): Promise<readonly Network[]>;
  get(name: string): Promise<Network>;
  create(spec: NetworkSpec): Promise<Made<Network>>;
  adopt(name: string, spec: { readonly vlan?: number | undefined }): Promise<Network>;
  /** Rejects with `network-busy` while it has ports: to force is the service's work. */
  remove(name: string): Promise<void>;
}

export interface NetworksOptions {
  readonly northbound: Northbound;
  /** Of each call. */
  readonly timeoutMs: number;
}

export declare function createNetworks(options: NetworksOptions): Networks;

/** The switch of that name. Throws `network-unknown` or `network-ambiguous`. */
export declare function findSwitch(view: NorthboundView, name: string): LogicalSwitchView;

/** Throws `network-foreign` for a switch without our mark, `tag-missing` or `tag-invalid` for one without a tag; then `vlan` is a number. */
export declare function requireAttachable(view: NorthboundView, name: string): Network & { readonly vlan: number };

export declare function readNetwork(view: NorthboundView, row: LogicalSwitchView): Network;
