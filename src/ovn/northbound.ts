/**
 * OVN's northbound database over a connection of our own, kept up to date by a monitor and made anew when it is lost.
 * It is where networks, tags and attachments live: docs/northbound.md.
 *
 * Every change is planned from the view and written in one transaction that fails if the view is not what the database
 * holds any more; then it is planned anew. So two control processes can't give away one tag twice.
 */
import type { CallOptions, RpcTarget } from '../ovsdb/json-rpc.js';
import type { LogicalPortView, LogicalSwitchView, NorthboundView, PortAddresses } from './northbound-view.js';

export type { CallOptions } from '../ovsdb/json-rpc.js';
export type { LogicalPortView, LogicalSwitchView, NorthboundView, PortAddresses } from './northbound-view.js';

/** A row of Logical_Switch that is to be made. Our mark is added. */
export interface LogicalSwitchSpec {
  readonly name: string;
  /** With its tag under `vlan_tag`. */
  readonly externalIds: Readonly<Record<string, string>>;
  readonly otherConfig: Readonly<Record<string, string>>;
}

/** A row of Logical_Switch_Port that is to be made. Our mark is added. */
export interface LogicalPortSpec {
  readonly switchUuid: string;
  /** By `logicalPortName`. */
  readonly name: string;
  /** northd draws what is not given. An address is without a prefix length. */
  readonly mac?: string | undefined;
  readonly address?: string | undefined;
  /** Keys of names.ts. Endpoint and TAP have to be those of no other port. */
  readonly externalIds: Readonly<Record<string, string>>;
}

/** What a plan makes of the view: a row to write, or one that is there already and is as it should be. */
export type Plan<Spec, View> = { readonly write: Spec } | { readonly keep: View };

export interface Written<View> {
  readonly created: boolean;
  readonly row: View;
}

/**
 * Calls wait for a connection for a short while (a server that is restarted), then reject with `northbound-unreachable`;
 * with `northbound-timeout` at their deadline. What a call that rejects may have left in the server's queue is undone
 * when the server answers again.
 */
export interface Northbound {
  readonly target: RpcTarget;
  /** Switches and ports as the monitor has them. Throws `northbound-unreachable` while there is no connection. */
  view(): NorthboundView;
  /** As `view`, but waits for a connection. */
  currentView(options: CallOptions): Promise<NorthboundView>;
  /** Called after each change of the view, and when the connection is lost or made. What comes back ends that. */
  onChange(listener: () => void): () => void;
  isConnected(): boolean;
  /** Resolves with what `look` gives as soon as that is not `undefined`; `what` completes "waiting for ...". */
  waitFor<T>(look: (view: NorthboundView) => T | undefined, what: string, options: CallOptions): Promise<T>;

  /** `plan` is called again, with a newer view, each time that somebody was faster. What it throws is what the call rejects with. */
  createSwitch(
    plan: (view: NorthboundView) => Plan<LogicalSwitchSpec, LogicalSwitchView>,
    options: CallOptions,
  ): Promise<Written<LogicalSwitchView>>;
  /** Adds and overwrites keys of a switch that exists. A plan that keeps it writes nothing. */
  updateSwitch(
    plan: (view: NorthboundView) => Plan<
      {
        readonly row: LogicalSwitchView;
        readonly externalIds: Readonly<Record<string, string>>;
        readonly otherConfig: Readonly<Record<string, string>>;
      },
      LogicalSwitchView
    >,
    options: CallOptions,
  ): Promise<LogicalSwitchView>;
  /** `plan` gives the switch to remove, or nothing when there is none. It is not removed if it has a port by then, or is not ours. */
  removeSwitch(plan: (view: NorthboundView) => LogicalSwitchView | undefined, options: CallOptions): Promise<boolean>;

  /**
   * Rejects with what `plan` throws, and with `attachment-conflict` (name), `endpoint-in-use` (endpoint or TAP),
   * `mac-in-use` and `address-in-use` when another port has what `plan` wants.
   */
  createPort(
    plan: (view: NorthboundView) => Plan<LogicalPortSpec, LogicalPortView>,
    options: CallOptions,
  ): Promise<Written<LogicalPortView>>;
  /** Removes the port if it is ours. False: it was not there. */
  removePort(uuid: string, options: CallOptions): Promise<boolean>;
  /** What northd draws, or what was given. Rejects with `ports-exhausted` when northd has no address left. */
  waitForAddresses(portUuid: string, options: CallOptions): Promise<PortAddresses>;

  /** Resolves when northd has worked through all that was written before. */
  sync(options: CallOptions): Promise<void>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
  /** Resolves when nothing is left: no timer, no connection. */
  stop(): Promise<void>;
}

export interface NorthboundOptions {
  readonly target: RpcTarget;
  /** Told what becomes of the connection. */
  readonly log?:
    | { warn(fields: object, message: string): void; info(fields: object, message: string): void }
    | undefined;
}

/** Returns at once; the connection is made in the background, and made anew for as long as it takes. */
export declare function openNorthbound(options: NorthboundOptions): Northbound;
