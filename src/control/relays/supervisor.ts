/**
 * The relays of one run directory: starts them, adopts those that an earlier control process started, knows how each
 * fares and when it ends, and ends them. It decides nothing: what should run is for who calls.
 *
 * A relay is known by its status socket, RUN_DIR/relays/TAP.sock. Nothing else is needed to find it again.
 */
import { readdir, rm, stat, truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type ArcaError, toArcaError } from '../../errors.js';
import { NOTIFY_FD } from '../../exec.js';
import type { Logger } from '../../log.js';
import type { CallOptions } from '../../ovsdb/json-rpc.js';
import {
  findProcess,
  findProcesses,
  type ProcessInfo,
  signalProcess,
  waitForEnding,
  waitForExit,
} from '../../processes.js';
import type { RelayEvent } from '../../relay/notify.js';
import type { RelayStatus } from '../../relay/relay.js';
import { type RelayShape, type RelaySpec, type RelaySurroundings, relayArguments } from './arguments.js';
import { LAUNCH_GRACE_MS, launchRelay } from './launch.js';
import { askRelay, connectRelay, type RelayLink } from './link.js';

export interface RelayTrouble {
  /** A word of the relay's `DegradedReason`. */
  readonly reason: string;
  readonly detail: string;
  /** By `performance.now()`. */
  readonly since: number;
}

/** A relay that lives, as far as is known. */
export interface RelayView {
  readonly tap: string;
  readonly pid: number;
  readonly shape: RelayShape;
  /** It does not forward. */
  readonly trouble: RelayTrouble | undefined;
  readonly connected: boolean;
  /** Since when it has not answered, by `performance.now()`; nothing: it answered when it was last asked. */
  readonly silentSince: number | undefined;
  /** When it was started or adopted, by `performance.now()`. */
  readonly knownSince: number;
}

export type SupervisorEvent =
  | { readonly type: 'adopted' | 'started'; readonly relay: RelayView }
  | { readonly type: 'changed'; readonly relay: RelayView }
  /** It was not ended by us. `detail` is for people. */
  | { readonly type: 'died'; readonly relay: RelayView; readonly detail: string };

export interface Supervisor {
  list(): readonly RelayView[];
  get(tap: string): RelayView | undefined;
  /** Connects to every relay of the directory that we do not know. One that lives and does not answer is ended. */
  adopt(options: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /** Resolves when the relay is ready and watched. Rejects with its own error. */
  start(spec: RelaySpec, options: { readonly signal?: AbortSignal | undefined }): Promise<RelayView>;
  /** Ends it and removes its files. Resolves when it is gone; `killed`: it could not undo what it had made. */
  stop(tap: string): Promise<'stopped' | 'killed' | 'absent'>;
  /** Asks each for its status; gives those that answered. */
  probe(options: CallOptions): Promise<readonly RelayStatus[]>;
  /** Ends the watching. The relays live on. */
  close(): void;
}

export interface SupervisorOptions {
  /** Absolute; exists. */
  readonly relaysDir: string;
  readonly surroundings: RelaySurroundings;
  readonly relayProgram: readonly [command: string, ...args: string[]];
  readonly env: NodeJS.ProcessEnv;
  /** Of the relay's own start. */
  readonly startTimeoutMs: number;
  readonly log: Logger;
  /** Must not throw. */
  readonly onEvent: (event: SupervisorEvent) => void;
}

interface Known {
  view: RelayView;
  link: RelayLink;
  /** The last word of one that ends by itself. */
  lastWords: string;
  isStopping: boolean;
}

/** To answer on its status socket. */
const ANSWER_TIMEOUT_MS = 3_000;
/** A relay stops in well under a second, whatever hangs. */
const STOP_TIMEOUT_MS = 5_000;
const KILL_TIMEOUT_MS = 2_000;
const LARGEST_LOG_BYTES = 1024 * 1024;

export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { relaysDir, surroundings, relayProgram, env, startTimeoutMs, log, onEvent } = options;
  const relays = new Map<string, Known>();
  const inHand = new Set<string>();
  const statusPathOf = (tap: string): string => join(relaysDir, `${tap}.sock`);
  const logPathOf = (tap: string): string => join(relaysDir, `${tap}.log`);
  let isClosed = false;

  /** Connects and watches. Nothing when nobody is there. */
  async function watch(tap: string, call: CallOptions): Promise<Known | undefined> {
    let known: Known | undefined;
    const early: RelayEvent[] = [];
    const tell = (event: RelayEvent): void => {
      if (known === undefined) early.push(event);
      else changed(known, event);
    };
    const link = await connectRelay(statusPathOf(tap), tell, call);
    if (link === undefined) return undefined;
    known = { link, view: viewOf(link.status), lastWords: '', isStopping: false };
    if (isClosed) {
      link.close();
      return undefined;
    }
    relays.set(tap, known);
    for (const event of early) changed(known, event);
    void link.ended.then(({ byUs }) => (byUs ? undefined : linkEnded(tap, known as Known)));
    return known;
  }

  function changed(known: Known, event: RelayEvent): void {
    if (event.event === 'stopping') known.lastWords = event.reason;
    const view = viewAfter(known.view, event);
    if (view === known.view) return;
    known.view = view;
    onEvent({ type: 'changed', relay: view });
  }

  /** A relay that lives cuts off who does not read: so somebody may still be there. */
  async function linkEnded(tap: string, known: Known): Promise<void> {
    if (relays.get(tap) !== known) return;
    if (known.isStopping) {
      relays.delete(tap);
      return;
    }
    try {
      const again = isClosed ? undefined : await watch(tap, { timeoutMs: ANSWER_TIMEOUT_MS });
      if (again?.view.pid === known.view.pid) {
        again.view = { ...again.view, knownSince: known.view.knownSince };
        onEvent({ type: 'changed', relay: again.view });
        return;
      }
    } catch (error) {
      log.warn({ tap, err: toArcaError(error).message }, 'a relay that closed its connection does not answer');
    }
    if (relays.get(tap) === known) relays.delete(tap);
    if (isClosed) return;
    const { pid } = known.view;
    const detail = known.lastWords === '' ? `process ${pid} was killed` : `process ${pid} ended: ${known.lastWords}`;
    log.warn({ tap, pid, detail }, 'relay died');
    onEvent({ type: 'died', relay: known.view, detail });
  }

  async function adoptOne(tap: string, signal: AbortSignal | undefined): Promise<void> {
    const statusPath = statusPathOf(tap);
    try {
      const known = await watch(tap, { timeoutMs: ANSWER_TIMEOUT_MS, signal });
      if (known !== undefined) {
        log.info({ tap, pid: known.view.pid }, 'relay adopted');
        onEvent({ type: 'adopted', relay: known.view });
        return;
      }
      // Nobody listens there any more; but one that stops is still to be waited for.
      const isGone = (await processesOf(statusPath)).length === 0;
      if (isGone && !inHand.has(tap)) await rm(statusPath, { force: true });
    } catch (error) {
      if (signal?.aborted) return;
      const processes = await processesOf(statusPath);
      const pids = processes.map(({ pid }) => pid);
      log.warn({ tap, pids, err: toArcaError(error).message }, 'relay can not be adopted; it is ended');
      await endProcesses(processes);
      await rm(statusPath, { force: true });
    }
  }

  async function makeRoomForLog(path: string): Promise<void> {
    const size = await stat(path).then(
      (stats) => stats.size,
      () => 0,
    );
    if (size > LARGEST_LOG_BYTES) await truncate(path);
  }

  return {
    list: () => [...relays.values()].map(({ view }) => view),
    get: (tap) => relays.get(tap)?.view,

    async adopt({ signal }) {
      const names = await readdir(relaysDir);
      const taps = names.filter((name) => name.endsWith('.sock')).map((name) => basename(name, '.sock'));
      const unknown = taps.filter((tap) => !relays.has(tap) && !inHand.has(tap));
      await Promise.all(unknown.map((tap) => adoptOne(tap, signal)));
    },

    async start(spec, { signal }) {
      const { tap } = spec;
      const statusPath = statusPathOf(tap);
      inHand.add(tap);
      try {
        await makeRoomForLog(logPathOf(tap));
        const args = relayArguments(spec, surroundings, {
          statusPath,
          notifyFd: NOTIFY_FD,
          timeoutMs: startTimeoutMs,
        });
        await launchRelay({
          command: [...relayProgram, ...args],
          env,
          logPath: logPathOf(tap),
          timeoutMs: startTimeoutMs + LAUNCH_GRACE_MS,
          signal,
        });
        const known = await watch(tap, { timeoutMs: ANSWER_TIMEOUT_MS, signal });
        if (known === undefined) throw diedAtOnce(tap);
        log.info({ tap, pid: known.view.pid }, 'relay started');
        onEvent({ type: 'started', relay: known.view });
        return known.view;
      } finally {
        inHand.delete(tap);
      }
    },

    async stop(tap) {
      const known = relays.get(tap);
      inHand.add(tap);
      try {
        if (known !== undefined) known.isStopping = true;
        const processes = await processesOf(statusPathOf(tap), known?.view.pid);
        const outcome = processes.length === 0 ? 'absent' : await endProcesses(processes);
        // Somebody may have killed it a moment ago.
        if (known !== undefined) await waitForEnding(known.view.pid, KILL_TIMEOUT_MS);
        known?.link.close();
        if (relays.get(tap) === known) relays.delete(tap);
        await rm(statusPathOf(tap), { force: true });
        await rm(logPathOf(tap), { force: true });
        return outcome;
      } finally {
        inHand.delete(tap);
      }
    },

    async probe(call) {
      const asked = [...relays].map(async ([tap, known]) => {
        try {
          const status = await askRelay(statusPathOf(tap), call);
          if (status === undefined) return [];
          const { knownSince, trouble } = known.view;
          const now = viewOf(status);
          const wasSilent = known.view.silentSince !== undefined;
          known.view = { ...now, knownSince, trouble: now.trouble && (trouble ?? now.trouble) };
          if (wasSilent) onEvent({ type: 'changed', relay: known.view });
          return [status];
        } catch (error) {
          if (known.view.silentSince !== undefined || relays.get(tap) !== known) return [];
          log.warn({ tap, pid: known.view.pid, err: toArcaError(error).message }, 'relay does not answer');
          known.view = { ...known.view, silentSince: performance.now() };
          onEvent({ type: 'changed', relay: known.view });
          return [];
        }
      });
      return (await Promise.all(asked)).flat();
    },

    close() {
      isClosed = true;
      for (const { link } of relays.values()) link.close();
      relays.clear();
    },
  };
}

function viewOf(status: RelayStatus): RelayView {
  const { tap, tag, bridge, endpoint, mtu, network, interfaceConfig, allowedCids } = status;
  const now = performance.now();
  return {
    tap,
    pid: status.pid,
    shape: {
      ...{ tap, tag, bridge, endpoint, mtu, interfaceConfig, allowedCids },
      ...(network !== undefined && { network }),
    },
    trouble: status.trouble && { ...status.trouble, since: now },
    connected: status.peer !== undefined,
    silentSince: undefined,
    knownSince: now,
  };
}

/** Pure: the same view when the event changes nothing. */
function viewAfter(view: RelayView, event: RelayEvent): RelayView {
  switch (event.event) {
    case 'ready':
      return view.trouble === undefined ? view : { ...view, trouble: undefined };
    case 'degraded': {
      const { reason, detail } = event;
      return { ...view, trouble: { reason, detail, since: view.trouble?.since ?? performance.now() } };
    }
    case 'peer-connected':
      return { ...view, connected: true };
    case 'peer-gone':
      return { ...view, connected: false };
    case 'starting':
    case 'peer-updated':
    case 'peer-refused':
    case 'dial-failed':
    case 'stopping':
    case 'stopped':
    case 'failed':
      return view;
  }
}

/**
 * The relays with that status socket, by their command line: so that a process id that was given away meanwhile is not
 * taken for one. With the process id only that one is looked at.
 */
async function processesOf(statusPath: string, pid?: number): Promise<ProcessInfo[]> {
  const option = `--metrics=unix:${statusPath}`;
  const known = pid === undefined ? undefined : await findProcess(pid);
  if (known?.args.includes(option)) return [known];
  return findProcesses((args) => args.includes(option));
}

async function endProcesses(processes: readonly ProcessInfo[]): Promise<'stopped' | 'killed'> {
  for (const { pid } of processes) {
    signalProcess(pid, 'SIGTERM');
    // One that is stopped takes SIGTERM only when it goes on.
    signalProcess(pid, 'SIGCONT');
  }
  if (await waitForExit(processes, STOP_TIMEOUT_MS)) return 'stopped';
  for (const { pid } of processes) signalProcess(pid, 'SIGKILL');
  await waitForExit(processes, KILL_TIMEOUT_MS);
  return 'killed';
}

function diedAtOnce(tap: string): ArcaError {
  return toArcaError(new Error(`the relay of ${tap} ended as soon as it was ready`));
}
