/**
 * What the checks judge: facts of this host. Each is read at most once, only when a check asks for it, all at the same
 * time, and each has a deadline. What can't be read is a fact too: why.
 */
import { toArcaError } from '../errors.js';
import type { Finding } from '../finding.js';
import type { FlowFacts } from '../ovs/bridge.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { deadlineOf } from '../ovsdb/json-rpc.js';
import type { ControlFacts } from './read/control.js';
import type { DaemonFacts } from './read/daemon.js';
import type { CapabilityFacts, ToolFacts, TunFacts, VersionFacts, VsockFacts } from './read/host.js';
import type { Link, TapHolders, TapSettings } from './read/links.js';
import type { NorthboundFacts, SouthboundFacts } from './read/ovn.js';
import type { OvsView } from './read/ovs.js';
import type { RelayFacts } from './read/relays.js';

export interface Facts {
  readonly tun: TunFacts;
  readonly vsock: VsockFacts;
  readonly capabilities: readonly CapabilityFacts[];
  readonly tools: ToolFacts;
  readonly versions: VersionFacts;

  readonly ovsdbServer: DaemonFacts;
  readonly vswitchd: DaemonFacts;
  readonly northboundServer: DaemonFacts;
  readonly southboundServer: DaemonFacts;
  readonly northd: DaemonFacts;
  readonly ovnController: DaemonFacts;
  readonly control: ControlFacts;

  readonly ovs: OvsView;
  readonly flows: FlowFacts;
  readonly northbound: NorthboundFacts;
  readonly southbound: SouthboundFacts;

  /** Of the network namespace that ovs-vswitchd is in, which is this process's too. */
  readonly links: readonly Link[];
  /** Indices of the devices that ovs-vswitchd reads by a packet socket: those of the userspace datapath. */
  readonly readDevices: ReadonlySet<number>;
  readonly tapHolders: TapHolders;
  readonly tapSettings: ReadonlyMap<string, TapSettings>;

  readonly relays: readonly RelayFacts[];
  /** Status sockets in the run directory behind which nobody listens. */
  readonly deadSockets: readonly string[];

  /** What `arca persistence check` finds. */
  readonly persistence: readonly Finding[];
}

export type FactName = keyof Facts;
export type Fact<T> = { readonly known: true; readonly value: T } | { readonly known: false; readonly why: string };

export interface FactSource {
  /** Never rejects. */
  get<Name extends FactName>(name: Name): Promise<Fact<Facts[Name]>>;
}

/** What a reader gets: its deadline, and the other facts. */
export interface ReadContext {
  readonly call: CallOptions;
  /** Rejects when that fact can't be had, with its reason. */
  need<Name extends FactName>(name: Name): Promise<Facts[Name]>;
}

export type Readers = { readonly [Name in FactName]: (context: ReadContext) => Promise<Facts[Name]> };

/** A daemon that has said nothing for this long hangs. */
const MOST_READ_MS = 5_000;
/** Of the time that is left: the rest is for saying that it hangs, and for what needs that fact. */
const READ_SHARE = 0.6;
/** For what is done once the last fact is there. */
const MARGIN_MS = 50;

export function createFacts(readers: Readers, call: CallOptions): FactSource {
  const read = new Map<FactName, Promise<Fact<unknown>>>();
  const left = deadlineOf({ ...call, timeoutMs: Math.max(1, call.timeoutMs - MARGIN_MS) });
  const source: FactSource = {
    get<Name extends FactName>(name: Name) {
      const known = read.get(name) ?? readOne(readers[name], source, left);
      read.set(name, known);
      return known as Promise<Fact<Facts[Name]>>;
    },
  };
  return source;
}

async function readOne<T>(
  reader: (context: ReadContext) => Promise<T>,
  source: FactSource,
  left: () => CallOptions,
): Promise<Fact<T>> {
  const whole = left();
  const call = (): CallOptions => ({
    ...whole,
    timeoutMs: Math.ceil(Math.min(left().timeoutMs * READ_SHARE, MOST_READ_MS)),
  });
  const context: ReadContext = {
    // Its time begins when what it needs is there.
    get call() {
      return call();
    },
    async need(name) {
      const fact = await source.get(name);
      if (fact.known) return fact.value;
      throw new Error(fact.why);
    },
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Fact<T>>((resolve) => {
    timer = setTimeout(() => resolve({ known: false, why: 'the time is over (--timeout)' }), whole.timeoutMs);
  });
  const answer = reader(context).then(
    (value): Fact<T> => ({ known: true, value }),
    (error: unknown): Fact<T> => ({ known: false, why: toArcaError(error).message }),
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
