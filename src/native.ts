/**
 * The only loader of the native addon, and its types, written by hand. Nothing else in `src/` may load it.
 *
 * Threads: the engine runs its own worker threads (never the libuv pool). Every event arrives on the JavaScript
 * thread, in the order in which it happened. No call here blocks longer than a few system calls.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from './package-root.js';

/** CID that stands for "any" in a listening address (`VMADDR_CID_ANY`, vsock(7)). */
export const VSOCK_CID_ANY = 0xffffffff;

export type Endpoint =
  | { readonly transport: 'vsock'; readonly cid: number; readonly port: number }
  | { readonly transport: 'unix'; readonly path: string };

/** What the container's interface should be; the relay tells it to the container's end in HELLO. */
export interface InterfaceConfig {
  /** `02:00:00:00:00:01` */
  readonly mac?: string;
  readonly mtu?: number;
  /** CIDR, IPv4 or IPv6, for example `10.9.0.2/24`. */
  readonly addresses?: readonly string[];
  readonly gateways?: readonly string[];
  readonly dns?: readonly string[];
}

/** `uso` is UDP segmentation, by option only. */
export type Offload = 'checksum' | 'tso4' | 'tso6' | 'uso';

export interface NativeRelayOptions {
  /** Name of the TAP device to make, 1 to 15 bytes; it must not exist. */
  readonly tap: string;
  /** MTU of the TAP device in bytes (L3), 68 to 65521: what the kernel's TAP takes. */
  readonly mtu: number;
  /** Empty: every CID may connect. Applies to vsock peers. */
  readonly allowedCids: readonly number[];
  readonly onSecondPeer: 'refuse' | 'replace';
  /** Largest send in bytes; 1 sends each frame by itself; 0 takes the transport's default. */
  readonly burstBytes: number;
  readonly interfaceConfig: InterfaceConfig;
  /** What the switch behind the TAP takes. With `checksum`, `tso4` and `tso6` TCP segments of a plain peer are joined, too. */
  readonly offloads?: readonly Offload[];
}

export interface Peer {
  readonly transport: 'vsock' | 'unix';
  /** Set for vsock. */
  readonly cid?: number;
  /** Set for vsock: the peer's port. */
  readonly port?: number;
  /** Set for unix: the peer's process, as it was when it connected (`SO_PEERCRED`). */
  readonly pid?: number;
}

export interface Agreed {
  /** `plain` until (and unless) the peer's HELLO arrived. */
  readonly protocol: 'plain' | 'arca';
  /** Offloads of the frames that this end may send. */
  readonly offloads: readonly Offload[];
  /** Largest payload of a record that this end may send, bytes. */
  readonly largestRecordBytes: number;
  /** Largest send, bytes. */
  readonly largestBurstBytes: number;
  /** The peer's MTU in bytes, if it told it. */
  readonly peerMtu?: number;
  /** The peer's MAC, if it told it. */
  readonly peerMac?: string;
}

export type NativeEvent =
  /** One for each link. Carrier is up and frames move before this: it waits at most 200 ms for the first record, to tell a plain peer. */
  | { readonly type: 'peer-connected'; readonly peer: Peer; readonly agreed: Agreed }
  /** The peer said HELLO again (or late), and what was agreed changed. */
  | { readonly type: 'peer-updated'; readonly peer: Peer; readonly agreed: Agreed }
  /** `reason` is a stable word (`end-of-stream`, `reset`, `breach`, `goodbye`, `replaced`, `tap-lost`), `detail` is for people. */
  | { readonly type: 'peer-gone'; readonly peer: Peer; readonly reason: string; readonly detail: string }
  | { readonly type: 'peer-refused'; readonly peer: Peer; readonly reason: 'cid-not-allowed' | 'busy' }
  /** A dialling relay could not reach its peer; told when the error changes, not at each try. */
  | { readonly type: 'dial-failed'; readonly code: string; readonly detail: string }
  /** The TAP device is gone or can't be used any more; the relay moves no more frames. */
  | { readonly type: 'tap-lost'; readonly code: string; readonly detail: string };

/** Counters of one direction since the relay was made. They never go back, also over peers that come and go. */
export interface DirectionCounters {
  readonly frames: number;
  readonly bytes: number;
  /** Sends (tapToStream) or receives (streamToTap) that moved something. */
  readonly bursts: number;
  readonly systemCalls: number;
  /** Times that the sink was full and the source was left alone until it drained. */
  readonly stalls: number;
  /** Drops by reason; every reason that there is, also with 0. Reasons are stable words, for metric labels. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface RelayCounters {
  readonly tapToStream: DirectionCounters;
  readonly streamToTap: DirectionCounters;
  readonly peersConnected: number;
  readonly peersRefused: { readonly busy: number; readonly 'cid-not-allowed': number };
  /** Links closed because the peer broke the protocol, by reason; every reason that there is, also with 0. */
  readonly breaches: Readonly<Record<string, number>>;
  /**
   * How frames that came together are written to the TAP. `batched`: by one system call. `refused`: by one each, since
   * the kernel does not let this process use io_uring, or has none that serves; `code` is its errno. `untried` until
   * enough came at once. Of the worker: relays that share one have the same.
   */
  readonly tapWrites: { readonly state: 'untried' | 'batched' | 'refused'; readonly code?: string };
  /** Frames that the kernel dropped because the TAP's queue was full (`tx_dropped` of the device). */
  readonly tapQueueDrops: number;
  /** 1 while a peer is connected. */
  readonly peerUp: 0 | 1;
}

/** What the addon throws: `code` is the name of the errno (`EPERM`) or `EINVAL` for a bad argument, `operation` is the step that failed. */
export interface NativeError extends Error {
  readonly code: string;
  readonly operation: string;
}

export interface NativeRelay {
  readonly tap: string;
  /** Index of the TAP device in its network namespace. */
  readonly ifindex: number;
  /** Binds, listens and starts to accept. Throws `NativeError` (EADDRINUSE: somebody listens there; ENODEV or EAFNOSUPPORT: no vsock). A stale Unix socket is replaced. EALREADY: it listens or dials already. */
  listen(endpoint: Endpoint): void;
  /** Dials for ever, with backoff from 10 ms to 1 s, and again after each peer that goes. EALREADY: it listens or dials already. */
  dial(endpoint: Endpoint): void;
  /** The switch takes these from now on; the peer is told. */
  setOffloads(offloads: readonly Offload[]): void;
  counters(): RelayCounters;
  /** Closes listener, link and TAP. The promise settles when every descriptor is closed; no event comes after it. Safe to call twice. */
  close(): Promise<void>;
}

export interface NativeEngine {
  /** Makes the TAP: carrier down, the MTU, no IPv6, no ARP, no address, up. Throws `NativeError`. */
  createRelay(options: NativeRelayOptions, onEvent: (event: NativeEvent) => void): NativeRelay;
  /** Closes every relay, then joins the threads. */
  close(): Promise<void>;
}

/** Callers of a byte proxy; who is refused was not read a byte from. */
export interface StreamProxyOptions {
  /** `vsock:PORT` for callers of other VMs; a Unix socket serves too. */
  readonly listen: Endpoint;
  /** Dialled once for each caller. */
  readonly target: { readonly transport: 'unix'; readonly path: string };
  /** Who may call over vsock: at least one CID there, for nobody is let in by default. Not asked of a Unix socket's callers. */
  readonly allowedCids: readonly number[];
  /** 1 to 1024. Further callers are refused until one is gone. */
  readonly maxConnections: number;
}

/** `busy`: `maxConnections` are open. `target-unreachable`: nobody serves the target. */
export type ProxyRefusal = 'busy' | 'cid-not-allowed' | 'target-unreachable';

/** Each kind and reason is told at most once a second, however many callers there are. */
export type StreamProxyEvent =
  /** `count`: how many since this reason was told last; `peer` is the latest of them. */
  | {
      readonly type: 'refused';
      readonly reason: ProxyRefusal;
      readonly peer: Peer;
      readonly count: number;
      readonly detail: string;
    }
  /** Nobody could be accepted, for example without free descriptors (`EMFILE`); callers wait, and it is tried again. */
  | { readonly type: 'accept-failed'; readonly code: string; readonly count: number; readonly detail: string };

export interface StreamProxyStats {
  /** Now. */
  readonly connectionsOpen: number;
  /** These and all below: since the start. */
  readonly connectionsAccepted: number;
  readonly connectionsRefused: Readonly<Record<ProxyRefusal, number>>;
  readonly bytesToTarget: number;
  readonly bytesFromTarget: number;
}

export interface StreamProxy {
  stats(): StreamProxyStats;
  /** Closes the listener and every connection and joins the thread; no event comes after it was called. Safe to call twice. */
  stop(): Promise<void>;
}

interface Addon {
  /**
   * `workers`: threads; 2 by default, one a direction for a single relay, and 1 with fewer than four processors.
   * `busyPollUs`: how long, in microseconds, they ask for frames before they sleep; 0 by default.
   */
  readonly Engine: new (options?: {
    readonly workers?: number;
    readonly busyPollUs?: number;
  }) => NativeEngine;
  /** `vsock:PORT`, `vsock:CID:PORT` or `unix:PATH`. Throws `NativeError` with EINVAL and a message for the user. */
  parseEndpoint(text: string): Endpoint;
  /**
   * Listens, and carries bytes between each caller and a connection of its own to the target, on one thread beside
   * JavaScript's. Bounded: at most 32 KiB wait for a reader that is slow, and then its writer waits, too. The end of
   * either direction is passed on, and the other goes on. Throws `NativeError` as `NativeRelay.listen` does.
   */
  startStreamProxy(options: StreamProxyOptions, onEvent: (event: StreamProxyEvent) => void): StreamProxy;
  /** One datagram to `NOTIFY_SOCKET` (sd_notify(3)); a path, or `@` and an abstract name. Throws `NativeError`; does not block. */
  sdNotify(path: string, state: string): void;
}

const require = createRequire(import.meta.url);
const addon = require(join(packageRoot, 'build/Release/arca_native.node')) as Addon;

export const Engine: Addon['Engine'] = addon.Engine;
export const parseEndpoint: Addon['parseEndpoint'] = addon.parseEndpoint;
export const startStreamProxy: Addon['startStreamProxy'] = addon.startStreamProxy;
export const sdNotify: Addon['sdNotify'] = addon.sdNotify;
