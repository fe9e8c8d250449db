/**
 * Puts a TAP device on a bridge, so that it really forwards. The danger is the dead port: vswitchd goes on reading
 * from a device that was removed and made again under its name, and neither `ofport` nor `error` tells
 * (facts: ovs-ovn.md, conclusion 3; what was tried is in docs/decisions/0001-dead-ports.md). Two rules keep it away:
 *
 * 1. A row that an earlier relay left is removed, and vswitchd has worked that through, before a new one is made.
 * 2. The new row asks for an OpenFlow port number that nobody has. vswitchd gives a port another number only by opening
 *    its device anew. So once `ofport` is that number, vswitchd has opened the device that was there when we asked.
 */
import { ArcaError } from '../errors.js';
import { CommandError, run } from '../exec.js';
import type { Logger } from '../log.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { attachArguments, type PortSpec } from './port-commands.js';
import type { OvsSession, OvsView } from './session.js';

export interface AttachOptions {
  readonly session: OvsSession;
  readonly port: PortSpec;
  /** For everything here together. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly log: Logger;
}

export interface Attached {
  /** OpenFlow port number. */
  readonly ofport: number;
}

/** Draws of a number that may be lost to somebody who drew the same at the same time. */
const MAX_DRAWS = 3;
/** For taking the port off again after a failure; the time for the attachment may be used up by then. */
const UNDO_TIMEOUT_MS = 500;

/**
 * Removes the port that an earlier relay left under this name, and waits until vswitchd has no such port any more,
 * whoever removed it. The TAP must exist already, or the port of a relay that lives could be removed.
 *
 * `cleared`: there was one, and vswitchd may have meddled with the TAP since that was made: it sets and restores the
 * flags of a device by its name, and writes back what it read before (seen: the TAP went down). Make it anew.
 */
export async function clearPortName({
  session,
  port,
  timeoutMs,
  signal,
  log,
}: AttachOptions): Promise<'cleared' | 'was-clear'> {
  const left = deadlineOf({ timeoutMs, signal });
  const removed = await session.removePort(left());
  if (removed === 'foreign') throw foreignPort(port.tap);
  await session.syncWithVswitchd(left());
  if (removed === 'absent') return 'was-clear';
  log.info({ tap: port.tap, bridge: port.bridge }, 'removed the port that an earlier relay left');
  return 'cleared';
}

/**
 * Attaches the TAP, which must exist, under a name that is clear. When it rejects, nothing is left in the database:
 * also when ovs-vsctl was killed at its deadline after it had committed.
 */
export async function attachPort(options: AttachOptions): Promise<Attached> {
  const { session, port, log } = options;
  const call = deadlineOf(options);
  try {
    for (let draw = 1; ; draw++) {
      const number = await session.freePortNumber(call());
      await runAttach(session, port, number, call());
      const ofport = await awaitNumber(session, port, number, call());
      if (ofport === number) return { ofport };
      log.warn({ tap: port.tap, requestedOfport: number, ofport }, 'OpenFlow number taken, drawing another');
      if (draw === MAX_DRAWS) {
        throw new ArcaError(
          'attach-failed',
          `ovs-vswitchd gave port ${port.tap} another OpenFlow number than it asked for, ${MAX_DRAWS} times; ` +
            'it may be reading a device that is gone',
        );
      }
    }
  } catch (error) {
    await undoAttach(session, log);
    throw error;
  }
}

/**
 * Makes the port again, or gives it back its tag and marks, while the TAP that `attachPort` attached has lived on. Any
 * number is right then; the one from the start keeps vswitchd from opening the device anew without need.
 */
export async function reattachPort(
  session: OvsSession,
  port: PortSpec,
  number: number,
  options: CallOptions,
): Promise<Attached> {
  const call = deadlineOf(options);
  await runAttach(session, port, number, call());
  // ovs-vsctl waits for vswitchd only when it changed something.
  await session.syncWithVswitchd(call());
  return { ofport: await awaitNumber(session, port, number, call()) };
}

/** The number that vswitchd gives to the port; another one than was asked for, if that is taken. */
async function awaitNumber(session: OvsSession, port: PortSpec, number: number, call: CallOptions): Promise<number> {
  const ofport = await session.waitFor(
    ({ interface: iface, port: row }) => {
      if (iface === undefined || row === undefined || iface.ofportRequest !== number) return undefined;
      if (iface.error !== '') return new ArcaError('attach-failed', refusedMessage(port, iface.error));
      return iface.ofport !== undefined && iface.ofport > 0 ? iface.ofport : undefined;
    },
    `port ${port.tap} to get an OpenFlow number`,
    call,
  );
  if (ofport instanceof ArcaError) throw ofport;
  return ofport;
}

async function runAttach(session: OvsSession, port: PortSpec, number: number, call: CallOptions): Promise<void> {
  try {
    await run('ovs-vsctl', attachArguments(session.socketPath, port, number, call.timeoutMs), call);
  } catch (error) {
    throw attachFailure(error, session.socketPath, port);
  }
}

function attachFailure(error: unknown, socketPath: string, port: PortSpec): ArcaError {
  if (!(error instanceof CommandError)) return new ArcaError('unexpected', String(error), { cause: error });
  const cause = error;
  switch (error.failure) {
    case 'not-found':
      return new ArcaError('command-missing', `${error.message}; install it: apt-get install openvswitch-switch`, {
        cause,
      });
    case 'timed-out':
      return new ArcaError(
        'ovs-timeout',
        `ovs-vsctl got no answer while attaching ${port.tap} to ${port.bridge}: ` +
          `ovsdb-server or ovs-vswitchd at unix:${socketPath} is stopped or overloaded`,
        { cause },
      );
    case 'aborted':
      return new ArcaError('timed-out', `stopped while attaching ${port.tap} to ${port.bridge}`, { cause });
    case 'exit-code':
    case 'signal':
    case 'output-limit':
      return new ArcaError(
        'attach-failed',
        `ovs-vsctl could not attach ${port.tap} to ${port.bridge}: ${error.output.stderr.trim() || error.message}`,
        { cause },
      );
  }
}

function refusedMessage(port: PortSpec, why: string): string {
  return (
    `ovs-vswitchd could not add ${port.tap} to ${port.bridge}: ${why}. ` +
    'The relay must run in the network namespace of ovs-vswitchd; its log says more'
  );
}

/** Throws `ovs-port-in-use` when the name is somebody else's. */
export function refuseForeignPort({ port, interface: iface }: OvsView, tap: string): void {
  if (port === undefined ? iface !== undefined : !port.isOurs) throw foreignPort(tap);
}

function foreignPort(tap: string): ArcaError {
  return new ArcaError(
    'ovs-port-in-use',
    `OVS has a port or an interface named ${tap} that this program did not make (it has no external_ids:arca-owner); ` +
      `take another --tap, or remove it: ovs-vsctl del-port ${tap}`,
  );
}

async function undoAttach(session: OvsSession, log: Logger): Promise<void> {
  try {
    await session.removePort({ timeoutMs: UNDO_TIMEOUT_MS });
    // A command that was killed may have been in the server's queue behind that look; it is not behind the next one.
    await session.removePort({ timeoutMs: UNDO_TIMEOUT_MS });
  } catch (error) {
    log.error({ err: error }, 'could not make sure that the port is gone; the next start of this relay removes it');
  }
}
