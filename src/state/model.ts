/** What a state file asks for, once it was read and checked: names are legal, nothing stands twice, defaults are filled in. */

export interface DesiredState {
  readonly bridges: readonly DesiredBridge[];
  /** Devices that are set up and may get addresses: those of bridges, and those named by themselves. A device stands once. */
  readonly links: readonly DesiredLink[];
  readonly ovsdb: OvsdbSettings;
}

export interface DesiredBridge {
  readonly name: string;
  readonly datapathType: 'system' | 'netdev';
  /** Without the bridge's own (`type` internal, of its name), which OVS makes. */
  readonly ports: readonly DesiredPort[];
  /** VLAN tag of the bridge's own port. */
  readonly tag: number | undefined;
  /** In the syntax of ovs-ofctl(8); nothing: the flows of this bridge are not looked after. */
  readonly flows: readonly DesiredFlow[] | undefined;
}

export interface DesiredPort {
  readonly name: string;
  /** Of its interface: empty for a device that is there by itself, `internal`, `patch`, `vxlan`, ... */
  readonly type: string;
  readonly options: Readonly<Record<string, string>>;
  readonly tag: number | undefined;
  /** Ascending; empty: every VLAN where there is no tag. */
  readonly trunks: readonly number[];
  /** Beside our own mark. */
  readonly externalIds: Readonly<Record<string, string>>;
}

export interface DesiredFlow {
  readonly text: string;
  /** In the state file, from 1. */
  readonly line: number;
}

export interface DesiredLink {
  /** Name of the network device. */
  readonly device: string;
  /** The bridge whose row remembers what we set on the device; nothing: the device is of no bridge. */
  readonly bridge: string | undefined;
  /** As `10.0.0.1/24`, canonical (see addresses.ts). */
  readonly addresses: readonly string[];
  readonly dhcp: boolean;
  /** Set up, or down. */
  readonly up: boolean;
  /** Bytes; nothing: as it is. */
  readonly mtu: number | undefined;
}

export interface OvsdbSettings {
  readonly socketPath: string | undefined;
  /** Where the database is expected to be kept. */
  readonly databasePath: string | undefined;
  readonly timeoutMs: number;
  /** Whether a database that would not survive a reboot is told. */
  readonly persist: boolean;
}
