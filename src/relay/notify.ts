/**
 * Tells whoever started the relay what becomes of it: one JSON line for each event on `--notify-fd`, and systemd's
 * protocol (sd_notify(3)) where NOTIFY_SOCKET is set.
 */
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { ArcaError, type ErrorCode } from '../errors.js';
import { type LineWriter, openLineWriter } from '../line-writer.js';
import type { Logger } from '../log.js';
import type { Agreed, Peer } from '../native.js';
import type { DegradedReason } from '../ovs/keeper.js';
import { createSystemdTeller } from '../systemd.js';

/** In the order of the start; `starting` is told when the step is done. */
export type StartStep = 'arguments' | 'tag' | 'bridge' | 'tap' | 'attach' | 'listen';

export type RelayEvent =
  | { readonly event: 'starting'; readonly step: StartStep }
  /** At the start, and again after each `degraded`. */
  | {
      readonly event: 'ready';
      readonly tap: string;
      readonly ifindex: number;
      readonly tag: number;
      readonly bridge: string;
      /** OpenFlow port number. */
      readonly ofport: number;
      readonly role: 'listen' | 'dial';
      /** As `--listen` and `--connect` take it. */
      readonly endpoint: string;
      readonly mtu: number;
      readonly datapathType: string;
      readonly network?: string;
      readonly pid: number;
    }
  | { readonly event: 'peer-connected' | 'peer-updated'; readonly peer: Peer; readonly agreed: Agreed }
  | { readonly event: 'peer-gone'; readonly peer: Peer; readonly reason: string; readonly detail: string }
  | { readonly event: 'peer-refused'; readonly peer: Peer; readonly reason: string }
  | { readonly event: 'dial-failed'; readonly code: string; readonly detail: string }
  /** The port does not forward, or it is not known whether it does. */
  | { readonly event: 'degraded'; readonly reason: DegradedReason; readonly detail: string }
  /** The port and the TAP are being removed; `stopped`, or `failed`, follows. */
  | { readonly event: 'stopping'; readonly reason: string }
  | { readonly event: 'stopped'; readonly reason: string }
  | { readonly event: 'failed'; readonly code: ErrorCode; readonly message: string; readonly exitCode: number };

export interface Notifier {
  /** Written before it returns. Never blocks and never throws: a reader that is slow or gone costs the line. */
  emit(event: RelayEvent): void;
  close(): void;
}

/** A notifier that others listen to, too. */
export interface EventFeed extends Notifier {
  /** Calls `listener`, which must not throw, with each event from now on; the function that comes back ends that. */
  subscribe(listener: (event: RelayEvent) => void): () => void;
}

export function createEventFeed(notifier: Notifier): EventFeed {
  const listeners = new Set<(event: RelayEvent) => void>();
  return {
    emit(event) {
      notifier.emit(event);
      for (const listener of [...listeners]) listener(event);
    },
    close: notifier.close,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export interface NotifierOptions {
  readonly fd: number | undefined;
  readonly systemd: { readonly socket: string; readonly send: (socket: string, state: string) => void } | undefined;
  readonly log: Logger;
}

/** The bits of open(2)'s flags that hold the access mode. */
const O_ACCMODE = 3;

/** Throws `usage` when the descriptor is not open. */
export function createNotifier({ fd, systemd, log }: NotifierOptions): Notifier {
  const writer = fd === undefined ? undefined : openNotifyFd(fd);
  let droppedCount = 0;
  const tellSystemd = systemd && createSystemdTeller({ ...systemd, log });

  function toFd(event: RelayEvent): void {
    if (writer === undefined) return;
    if (writer.write(`${JSON.stringify(event)}\n`)) return;
    droppedCount++;
    // Once is enough: the reader is the one to be told, and it does not listen.
    if (droppedCount === 1)
      log.warn({ notifyFd: fd, event: event.event }, 'nobody reads the notify descriptor; dropped');
  }

  function toSystemd(event: RelayEvent): void {
    const state = systemdState(event);
    if (state !== undefined) tellSystemd?.(state);
  }

  return {
    emit(event) {
      toFd(event);
      toSystemd(event);
    },
    close() {
      writer?.close();
    },
  };
}

/** Pure: what systemd is to know of an event. */
export function systemdState(event: RelayEvent): string | undefined {
  switch (event.event) {
    case 'starting':
      return `STATUS=Starting: ${event.step} done`;
    case 'ready':
      return `READY=1\nSTATUS=Ready: ${event.tap} on ${event.bridge}, VLAN ${event.tag}, ${event.role} ${event.endpoint}`;
    case 'degraded':
      return `STATUS=Degraded: ${event.reason}`;
    case 'peer-connected':
    case 'peer-updated':
      return `STATUS=Ready: peer connected (${event.agreed.protocol})`;
    case 'peer-gone':
      return `STATUS=Ready: peer gone (${event.reason})`;
    case 'stopping':
      return `STOPPING=1\nSTATUS=Stopping: ${event.reason}`;
    case 'stopped':
      return `STATUS=Stopped: ${event.reason}`;
    case 'failed':
      // sd_notify(3): a value ends with its line.
      return `STATUS=Failed: ${event.message.replaceAll('\n', ' ')}`;
    case 'peer-refused':
    case 'dial-failed':
      return undefined;
  }
}

function openNotifyFd(fd: number): LineWriter {
  try {
    if (isOwnDescriptor(fd)) throw new Error('it belongs to this process');
    return openLineWriter(fd);
  } catch (cause) {
    throw new ArcaError('usage', `--notify-fd: descriptor ${fd} is not open`, { cause });
  }
}

/**
 * Node has descriptors of its own by now (epoll, eventfd, a pipe for signals); a line written to one of them would do
 * harm. What was handed in is a pipe, a socket, a file or a terminal, and the reading end of the pipe is not here.
 */
function isOwnDescriptor(fd: number): boolean {
  const target = readlinkSync(`/proc/self/fd/${fd}`);
  if (target.startsWith('anon_inode:')) return true;
  if (!target.startsWith('pipe:')) return false;
  return readdirSync('/proc/self/fd').some((other) => {
    try {
      return readlinkSync(`/proc/self/fd/${other}`) === target && isReadOnly(other);
    } catch {
      // The descriptor that read the folder is closed by now.
      return false;
    }
  });
}

function isReadOnly(fd: string): boolean {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
  return (Number.parseInt(flags, 8) & O_ACCMODE) === constants.O_RDONLY;
}
