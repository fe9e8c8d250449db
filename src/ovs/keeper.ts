/**
 * Keeps a port attached while the relay runs: watches OVS's database and ovs-vswitchd, says when the port does not
 * forward and why, and mends what it may. One loop that looks at everything whenever anything changed: it does not
 * matter in which order daemons come and go.
 */
import { type ArcaError, toArcaError } from '../errors.js';
import { createLatch } from '../latch.js';
import type { Logger } from '../log.js';
import type { RpcConnection } from '../ovsdb/json-rpc.js';
import { reattachPort } from './attach.js';
import { type BridgeFacts, type DatapathFacts, datapathOf } from './bridge.js';
import type { OvsPlaces } from './places.js';
import type { PortSpec } from './port-commands.js';
import { type OvsSession, type OvsView, openOvsSession, type RemoveResult } from './session.js';
import { connectVswitchd } from './vswitchd.js';

export type DegradedReason =
  | 'ovsdb-server-gone'
  | 'ovs-vswitchd-gone'
  | 'bridge-missing'
  | 'bridge-black-hole'
  | 'port-missing'
  /** Its tag, bridge or marks are not what we set. */
  | 'port-changed'
  | 'port-foreign'
  | 'port-error'
  /** Somebody set the TAP down. */
  | 'tap-down';

export interface Trouble {
  readonly reason: DegradedReason;
  /** For people. */
  readonly detail: string;
}

export interface KeeperOptions {
  readonly places: OvsPlaces;
  readonly port: PortSpec;
  /** What `attachPort` gave. */
  readonly ofport: number;
  /** Both are the keeper's from now on. No vswitchd: it could not be found, only the database is watched. */
  readonly session: OvsSession;
  readonly vswitchd: RpcConnection | undefined;
  /** As it was when the relay started. A `fail_mode` of `secure` then means that the flows were looked at, and are the user's. */
  readonly bridgeAtStart: BridgeFacts;
  readonly log: Logger;
  /** Called when the port begins to be in trouble, when the trouble is another, and with nothing when it forwards again. */
  readonly onTrouble: (trouble: Trouble | undefined, ofport: number) => void;
  /** Called when the switch forwards by another datapath than before, or vswitchd was started anew with another setting. */
  readonly onDatapath: (datapath: DatapathFacts) => void;
}

export interface Keeper {
  /** To be called by whoever owns the session's `onChange`. */
  notice(): void;
  /**
   * Stops watching and takes the port off, in about `timeoutMs`, whatever hangs. Rejects when it can't say that the
   * port is gone.
   */
  stop(timeoutMs: number): Promise<RemoveResult>;
}

const FIRST_RETRY_MS = 10;
const LAST_RETRY_MS = 1000;
const CONNECT_TIMEOUT_MS = 1000;
const SYNC_TIMEOUT_MS = 5000;
const MEND_TIMEOUT_MS = 5000;
/** Of the time to stop, this part is for the database; the rest waits for vswitchd to let the device go. */
const REMOVE_SHARE = 0.6;

export function keepAttached(options: KeeperOptions): Keeper {
  const { places, port, bridgeAtStart, log, onTrouble, onDatapath } = options;
  const failModeAtStart = bridgeAtStart.failMode;
  const stopping = new AbortController();
  const { signal } = stopping;
  const latch = createLatch();
  let { session, vswitchd, ofport } = options;
  const findsVswitchd = vswitchd !== undefined;
  /** vswitchd has worked through the configuration since both connections were made. */
  let isSynced = true;
  let vswitchdIsNew = false;
  let reported: Trouble | undefined;
  let datapath = datapathOf(bridgeAtStart);
  let retryMs = FIRST_RETRY_MS;
  let mendAfter = 0;

  function report(trouble: Trouble | undefined): void {
    if (trouble?.reason === reported?.reason && trouble?.detail === reported?.detail) return;
    reported = trouble;
    onTrouble(trouble, ofport);
  }

  async function restoreSession(): Promise<Trouble | undefined> {
    if (session.isOpen()) return undefined;
    report({ reason: 'ovsdb-server-gone', detail: `no connection to unix:${places.socketPath}` });
    isSynced = false;
    try {
      session = await openOvsSession({
        socketPath: places.socketPath,
        bridge: port.bridge,
        tap: port.tap,
        timeoutMs: CONNECT_TIMEOUT_MS,
        signal,
        onChange: latch.set,
      });
      return undefined;
    } catch {
      return reported;
    }
  }

  async function restoreVswitchd(): Promise<Trouble | undefined> {
    if (!findsVswitchd || vswitchd?.isOpen()) return undefined;
    report({ reason: 'ovs-vswitchd-gone', detail: 'the daemon has ended' });
    isSynced = false;
    // The pidfile is not there for a moment while the daemon starts.
    vswitchd = await connectVswitchd(places, { timeoutMs: CONNECT_TIMEOUT_MS, signal }).catch(() => undefined);
    if (vswitchd === undefined) return reported;
    void vswitchd.closed.then(latch.set);
    vswitchdIsNew = true;
    return undefined;
  }

  /** A new vswitchd has read the setting that is in the database; one that runs keeps what it read. */
  function tellDatapath(vswitchdIsNew: boolean): void {
    const { bridge } = session.view();
    if (bridge === undefined) return;
    const { datapathType } = bridge;
    const userspaceTso = vswitchdIsNew ? bridge.userspaceTso : datapath.userspaceTso;
    if (datapathType === datapath.datapathType && userspaceTso === datapath.userspaceTso) return;
    datapath = { datapathType, userspaceTso };
    onDatapath(datapath);
  }

  async function sync(): Promise<Trouble | undefined> {
    if (isSynced) return undefined;
    try {
      await session.syncWithVswitchd({ timeoutMs: SYNC_TIMEOUT_MS, signal });
      isSynced = true;
      tellDatapath(vswitchdIsNew);
      vswitchdIsNew = false;
      return undefined;
    } catch (error) {
      const { code, message } = toArcaError(error);
      return { reason: code === 'ovs-timeout' ? 'ovs-vswitchd-gone' : 'ovsdb-server-gone', detail: message };
    }
  }

  /** Looks at everything, mends what may be mended, and gives the trouble that is left. */
  async function look(): Promise<Trouble | undefined> {
    const silent = (await restoreSession()) ?? (await restoreVswitchd()) ?? (await sync());
    if (silent) return silent;
    tellDatapath(false);
    const trouble = diagnose(session.view(), port, failModeAtStart);
    if (trouble === undefined || !isMendable(trouble.reason)) return trouble;
    report(trouble);
    if (performance.now() < mendAfter) return trouble;
    mendAfter = performance.now() + retryMs;
    try {
      ({ ofport } = await reattachPort(session, port, ofport, { timeoutMs: MEND_TIMEOUT_MS, signal }));
      log.info({ tap: port.tap, bridge: port.bridge, ofport }, 'port attached again');
    } catch (error) {
      if (!signal.aborted) log.warn({ tap: port.tap, err: shortError(error) }, 'could not attach the port again');
    }
    return diagnose(session.view(), port, failModeAtStart);
  }

  async function watch(): Promise<void> {
    while (!signal.aborted) {
      const trouble = await look();
      if (signal.aborted) return;
      ofport = session.view().interface?.ofport ?? ofport;
      report(trouble);
      if (trouble === undefined) {
        retryMs = FIRST_RETRY_MS;
        mendAfter = 0;
        await latch.wait({ signal });
      } else {
        await latch.wait({ timeoutMs: retryMs, signal });
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  }

  void vswitchd?.closed.then(latch.set);
  const watching = watch();

  return {
    notice: latch.set,
    async stop(timeoutMs) {
      stopping.abort();
      await watching;
      const deadline = performance.now() + timeoutMs;
      const removeBy = performance.now() + timeoutMs * REMOVE_SHARE;
      const left = (by: number): { timeoutMs: number } => ({ timeoutMs: Math.max(1, by - performance.now()) });
      try {
        if (!session.isOpen()) {
          session = await openOvsSession({
            socketPath: places.socketPath,
            bridge: port.bridge,
            tap: port.tap,
            ...left(removeBy),
          });
        }
        const result = await session.removePort(left(removeBy));
        // So that vswitchd closes the device before it goes. One that hangs is not waited for: the row is gone already.
        if (vswitchd?.isOpen() || !findsVswitchd) await session.syncWithVswitchd(left(deadline)).catch(() => {});
        // A command of the loop that was killed may have been behind the first look.
        await session.removePort(left(deadline + timeoutMs * (1 - REMOVE_SHARE)));
        return result;
      } finally {
        session.close();
        vswitchd?.close();
      }
    },
  };
}

/** Pure: what keeps the port from forwarding, as far as the database tells. */
export function diagnose(view: OvsView, port: PortSpec, failModeAtStart: string): Trouble | undefined {
  const { bridge, port: row, interface: iface } = view;
  if (bridge === undefined) return { reason: 'bridge-missing', detail: `bridge ${port.bridge} was removed` };
  if (bridge.failMode === 'secure' && failModeAtStart !== 'secure') {
    return {
      reason: 'bridge-black-hole',
      detail:
        `fail_mode of bridge ${port.bridge} became secure: an ovn-controller or another controller took it, ` +
        `and its flows do no NORMAL switching; ovs-vsctl del-fail-mode ${port.bridge} gives it back`,
    };
  }
  if (row === undefined && iface === undefined) {
    return { reason: 'port-missing', detail: `port ${port.tap} was removed` };
  }
  if (!row?.isOurs) {
    return { reason: 'port-foreign', detail: `port ${port.tap} does not carry our mark any more; it is left alone` };
  }
  if (!row.isOnBridge) return { reason: 'port-changed', detail: `port ${port.tap} is on another bridge` };
  if (row.tag !== port.tag) {
    return { reason: 'port-changed', detail: `port ${port.tap} has tag ${row.tag ?? 'none'}, not ${port.tag}` };
  }
  if (iface === undefined || iface.error !== '' || iface.ofport === undefined || iface.ofport <= 0) {
    return { reason: 'port-error', detail: iface?.error || `ovs-vswitchd has not added port ${port.tap}` };
  }
  if (iface.adminState === 'down') {
    return { reason: 'tap-down', detail: `${port.tap} was set down; set it up: ip link set ${port.tap} up` };
  }
  return undefined;
}

function isMendable(reason: DegradedReason): boolean {
  switch (reason) {
    case 'port-missing':
    case 'port-changed':
    case 'port-error':
      return true;
    case 'ovsdb-server-gone':
    case 'ovs-vswitchd-gone':
    case 'bridge-missing':
    case 'bridge-black-hole':
    case 'port-foreign':
    case 'tap-down':
      return false;
  }
}

function shortError(error: unknown): Pick<ArcaError, 'code' | 'message'> {
  const { code, message } = toArcaError(error);
  return { code, message };
}
