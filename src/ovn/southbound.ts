/**
 * Chassis in OVN's southbound database, over a connection that is made for each call: they are looked at rarely.
 */
import type { CallOptions, RpcTarget } from '../ovsdb/json-rpc.js';

export interface ChassisView {
  readonly uuid: string;
  readonly name: string;
  readonly hostname: string;
  readonly encaps: readonly { readonly type: string; readonly ip: string }[];
  /** It carries our mark: an ovn-controller did not make it. */
  readonly isOurs: boolean;
  /** Logical ports that are bound to it. */
  readonly boundPorts: number;
}

export interface Southbound {
  readonly target: RpcTarget;
  listChassis(options: CallOptions): Promise<readonly ChassisView[]>;
  /**
   * Makes the rows that `ovn-sbctl chassis-add NAME geneve IP` makes, with our mark. Rejects with `chassis-conflict`
   * for a name that exists with another address, and for an address that another chassis has.
   */
  addChassis(
    spec: { readonly name: string; readonly encapIp: string },
    options: CallOptions,
  ): Promise<{ readonly created: boolean; readonly chassis: ChassisView }>;
  /** Rejects with `chassis-unknown`. */
  removeChassis(name: string, options: CallOptions): Promise<void>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
}

/** Nothing is connected until a call; every call ends its connection. */
export declare function openSouthbound(target: RpcTarget): Southbound;

/** What an ovn-controller of this OVS is told to register, in `external_ids` of Open_vSwitch. */
export interface LocalChassis {
  readonly systemId: string | null;
  readonly ovnRemote: string | null;
  readonly encapTypes: readonly string[];
  readonly encapIps: readonly string[];
  readonly ovnBridge: string | null;
}
