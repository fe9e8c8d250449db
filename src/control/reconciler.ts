/** Looks at what is wanted and what is there whenever something changed, plans, and applies. */
import { readFileSync } from 'node:fs';
import { ArcaError, toArcaError } from '../errors.js';
import { createLatch, type Latch } from '../latch.js';
import type { Logger } from '../log.js';
import { type OvsFacts, removeOwnedPort } from '../ovs/ports.js';
import type { RelayStatus } from '../relay/relay.js';
import type { Attachments } from './attachments.js';
import type { PlanStep, ReconcileResult } from './model.js';
import { type Actual, plan } from './reconcile.js';
import type { Supervisor } from './relays/supervisor.js';
import type { WantedAttachment } from './wanted.js';

export interface Reconciler {
  /** Plans now, whatever waits for its time; and unless it is a dry run, applies it and waits until that is done. */
  reconcile(options: { readonly dryRun: boolean }): Promise<ReconcileResult>;
  /** Goes on until the signal aborts; never rejects. What it has begun by then goes on by itself. */
  run(signal: AbortSignal): Promise<void>;
}

export interface ReconcilerOptions {
  readonly attachments: Attachments;
  readonly supervisor: Supervisor;
  readonly readOvs: () => Promise<OvsFacts>;
  readonly ovsSocketPath: string;
  readonly bridge: string;
  /** Set when something changed. */
  readonly changed: Latch;
  readonly log: Logger;
  /** What the relays answered when they were asked. */
  readonly onProbe: (statuses: readonly RelayStatus[]) => void;
}

/** Everything is looked at this often, also when nothing says that it changed. */
const INTERVAL_MS = 10_000;
/** Many changes at once are one. */
const LEAST_GAP_MS = 100;
/** Asking a relay costs it some work; its own events tell all but that it hangs. */
const PROBE_INTERVAL_MS = 30_000;
const PROBE_TIMEOUT_MS = 3_000;
/** While a relay is in trouble, it is looked at this often whether it has been for too long. */
const TROUBLE_LOOK_MS = 1_000;
const REMOVE_TIMEOUT_MS = 5_000;

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { attachments, supervisor, readOvs, ovsSocketPath, bridge, changed, log, onProbe } = options;

  interface Look {
    readonly wanted: readonly WantedAttachment[];
    readonly ports: OvsFacts['ports'];
    readonly steps: readonly PlanStep[];
  }

  /** Nothing: what is wanted is not known. Then nothing may be changed. `isDue` leaves out what waits for its time. */
  async function look(isDue: (key: string) => boolean): Promise<Look | undefined> {
    await supervisor.adopt({});
    await toldOnce('what a failed attach left is still there', attachments.tidy());
    const ovs = await toldOnce('OVS can not be asked', readOvs());
    // From here on in one turn of the event loop, so that all of it is of one moment.
    const wanted = attachments.wanted();
    if (wanted === undefined) return undefined;
    const ports = ovs?.ports ?? [];
    const devices = readDevices();
    const now = performance.now();
    const inHand = new Set<string>();
    for (const { key } of wanted) if (attachments.isBusy(key) || !isDue(key)) inHand.add(key);
    for (const { tap } of supervisor.list()) if (attachments.isBusy(tap)) inHand.add(tap);
    const actual: Actual = {
      bridge,
      relays: supervisor.list().map(({ tap, pid, shape, trouble, silentSince }) => ({
        ...{ tap, pid, shape },
        trouble: trouble && { ...trouble, forMs: now - trouble.since },
        silentForMs: silentSince === undefined ? 0 : now - silentSince,
      })),
      ports: ports.map(({ name }) => ({ name, hasDevice: devices.has(name) })),
      inHand,
    };
    return { wanted, ports, steps: plan(wanted, actual) };
  }

  async function applyStep(step: PlanStep, { wanted, ports }: Look): Promise<void> {
    log.info({ ...step }, 'reconcile');
    switch (step.action) {
      case 'start-relay':
      case 'restart-relay': {
        const { container, network } = step;
        const found = wanted.find((attachment) => attachment.container === container && attachment.network === network);
        if (found !== undefined) await attachments.revive(found.key, { restart: step.action === 'restart-relay' });
        return;
      }
      case 'stop-relay':
        await attachments.stopStray(step.tap);
        return;
      case 'remove-port': {
        const port = ports.find(({ name }) => name === step.port);
        if (port === undefined || readDevices().has(port.name)) return;
        await removeOwnedPort(ovsSocketPath, port, { timeoutMs: REMOVE_TIMEOUT_MS });
      }
    }
  }

  /** False: it failed, and is tried again at the next look. */
  async function apply(step: PlanStep, seen: Look): Promise<boolean> {
    try {
      await applyStep(step, seen);
      return true;
    } catch (error) {
      log.warn({ ...step, err: toArcaError(error).message }, 'could not be reconciled; tried again later');
      return false;
    }
  }

  /** What fails at each look is told when it begins, and when it is something else. */
  const told = new Map<string, string>();
  async function toldOnce<T>(what: string, doing: Promise<T>): Promise<T | undefined> {
    try {
      const result = await doing;
      told.delete(what);
      return result;
    } catch (error) {
      const { message } = toArcaError(error);
      if (told.get(what) !== message) log.warn({ err: message }, what);
      told.set(what, message);
      return undefined;
    }
  }

  /** When the first of those that wait is due. */
  function waitMs(): number {
    const now = Date.now();
    const dues = (attachments.wanted() ?? []).flatMap(({ key, tap }) => {
      const restartAt = attachments.restartAt(key);
      return restartAt === undefined || supervisor.get(tap) !== undefined ? [] : [Math.max(0, restartAt - now)];
    });
    const troubles = supervisor.list().some(({ trouble }) => trouble !== undefined) ? [TROUBLE_LOOK_MS] : [];
    return Math.min(INTERVAL_MS, ...dues, ...troubles);
  }

  return {
    async reconcile({ dryRun }) {
      const seen = await look(() => true);
      if (seen === undefined) {
        throw new ArcaError(
          'northbound-unreachable',
          'nothing is reconciled: neither the northbound database nor OVS has said yet what is wanted of this process',
        );
      }
      if (!dryRun) await Promise.all(seen.steps.map((step) => apply(step, seen)));
      return { dryRun, steps: seen.steps };
    },

    async run(signal) {
      const gap = createLatch();
      let probedAt = performance.now();
      while (!signal.aborted) {
        if (performance.now() - probedAt >= PROBE_INTERVAL_MS) {
          probedAt = performance.now();
          onProbe(await supervisor.probe({ timeoutMs: PROBE_TIMEOUT_MS, signal }));
        }
        const now = Date.now();
        const isDue = (key: string): boolean => (attachments.restartAt(key) ?? 0) <= now;
        const seen = await toldOnce('what is there can not be looked at', look(isDue));
        if (signal.aborted) return;
        // Not awaited: one relay that is slow to start holds up no other. What is in hand is not planned again.
        for (const step of seen?.steps ?? []) void apply(step, seen as Look).then((done) => done && changed.set());
        await gap.wait({ timeoutMs: LEAST_GAP_MS, signal });
        await changed.wait({ timeoutMs: waitMs(), signal });
      }
    },
  };
}

/** The network devices of this process's network namespace, whatever is mounted on /sys. */
function readDevices(): ReadonlySet<string> {
  const lines = readFileSync('/proc/self/net/dev', 'utf8').split('\n').slice(2);
  return new Set(lines.map((line) => line.slice(0, line.indexOf(':')).trim()));
}
