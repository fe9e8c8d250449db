/**
 * One relay's life. Start: arguments, tag, bridge, TAP, attach, listen, ready; each step is undone if a later one
 * fails. Then events, until `stop` undoes all of them.
 */
import { ArcaError, toArcaError } from '../errors.js';
import type { Logger } from '../log.js';
import type { MetricsRenderer } from '../metrics.js';
import type { InterfaceConfig, NativeEngine, NativeEvent, NativeRelay, Offload } from '../native.js';
import { attachPort, clearPortName } from '../ovs/attach.js';
import { type Keeper, keepAttached } from '../ovs/keeper.js';
import { ovsPlaces } from '../ovs/places.js';
import type { PortSpec } from '../ovs/port-commands.js';
import { createUndoStack, type UndoStack } from '../undo.js';
import type { FoundBridge, LookUps } from './look-ups.js';
import { listenFailure, tapFailure } from './native-errors.js';
import { createEventFeed, type EventFeed, type Notifier } from './notify.js';
import { offloadsFor } from './offloads.js';
import { endpointText, type RelayOptions } from './options.js';
import { createReporter, type RelayFacts, type RelayReport, type Reporter } from './reporter.js';

export interface RelayDependencies {
  /** Its owner closes it, after the relay has stopped. */
  readonly engine: NativeEngine;
  readonly notifier: Notifier;
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
  readonly version: string;
}

/** What `GET /status` answers: what the relay is, how it fares, and what it was told, for whoever wants to adopt it. */
export interface RelayStatus extends RelayReport {
  /** What the container's end is told. */
  readonly interfaceConfig: InterfaceConfig;
  /** Empty: any. */
  readonly allowedCids: readonly number[];
}

/** The first line of `GET /events`; those that follow are `RelayEvent`s. */
export type RelayStatusLine = { readonly event: 'status' } & RelayStatus;

export interface Relay {
  status(): RelayStatus;
  /** Settles with the error that ends the relay while it runs, for example a TAP that was deleted. It still has to be stopped. */
  readonly failed: Promise<ArcaError>;
  /**
   * Removes the port and the TAP, in well under a second, whatever hangs. Rejects with `cleanup-incomplete` when it
   * can't say that the port is gone.
   */
  stop(reason: string): Promise<void>;
}

/** Together with the rest of stopping, this stays under a second. */
const DETACH_TIMEOUT_MS = 600;

/**
 * Resolves when the relay is ready. Rejects with an ArcaError, and has undone everything by then, `lookUps` too.
 * Aborting `signal` ends the start.
 */
export async function startRelay(
  options: RelayOptions,
  lookUps: LookUps,
  dependencies: RelayDependencies,
  signal: AbortSignal,
): Promise<Relay> {
  const undo = createUndoStack();
  const feed = createEventFeed(dependencies.notifier);
  const reporter = createReporter({ tap: options.tap, ...dependencies, notifier: feed });
  try {
    return await start(options, lookUps, { ...dependencies, notifier: feed }, reporter, undo, signal);
  } catch (error) {
    const undoError = await undo.run(dependencies.log);
    if (undoError !== undefined) dependencies.log.error({ err: undoError }, 'the start could not be undone completely');
    throw toArcaError(error);
  }
}

async function start(
  options: RelayOptions,
  lookUps: LookUps,
  { engine, notifier, log, env, version }: RelayDependencies & { readonly notifier: EventFeed },
  reporter: Reporter,
  undo: UndoStack,
  signal: AbortSignal,
): Promise<Relay> {
  undo.push('look-ups', lookUps.cancel);
  reporter.stepDone('arguments');

  // When both fail, the tag's error is the one that counts.
  const tag = await lookUps.tag;
  reporter.stepDone('tag');
  const found = await lookUps.bridge;
  for (const { fields, message } of found.warnings) log.warn(fields, message);
  reporter.stepDone('bridge');

  const offloads = offloadsFor(options.offload, found.bridge);
  let native = makeTap(options, offloads, engine, reporter.nativeEvent);
  undo.push('TAP', () => native.close());
  reporter.stepDone('tap');

  signal.throwIfAborted();
  const port = portOf(options, tag);
  const timeoutMs = (): number => Math.max(1, Math.ceil(lookUps.deadline - performance.now()));
  const attachment = { session: found.session, port, log, signal };
  if ((await clearPortName({ ...attachment, timeoutMs: timeoutMs() })) === 'cleared') {
    await native.close();
    native = makeTap(options, offloads, engine, reporter.nativeEvent);
  }
  const { ofport } = await attachPort({ ...attachment, timeoutMs: timeoutMs() });
  reporter.portChanged(undefined, ofport);
  const keeper = keepAttached({
    ...found,
    places: ovsPlaces(options.ovsSocketPath, env),
    port,
    ofport,
    bridgeAtStart: found.bridge,
    log,
    onTrouble: reporter.portChanged,
    onDatapath(datapath) {
      const offloads = offloadsFor(options.offload, datapath);
      log.info({ ...datapath, offloads }, 'the switch changed what it takes');
      native.setOffloads(offloads);
    },
  });
  lookUps.onChange = keeper.notice;
  undo.push('port', detaching(keeper, port, log));
  reporter.stepDone('attach');

  signal.throwIfAborted();
  const facts = factsOf(options, tag, found, native);
  const { interfaceConfig, allowedCids } = options;
  const status = (): RelayStatus => ({
    ...reporter.status(facts, native.counters()),
    ...{ interfaceConfig, allowedCids },
  });
  if (options.metrics !== undefined) {
    const { startStatusServer } = await import('./status-server.js');
    const metrics = metricsOf(native, reporter, version);
    const server = await startStatusServer(options.metrics, { status, metrics, subscribe: notifier.subscribe }, signal);
    undo.push('status server', server.stop);
  }
  openEndpoint(native, options);
  reporter.stepDone('listen');

  signal.throwIfAborted();
  reporter.started(facts);
  return {
    status,
    failed: reporter.failed,
    async stop(reason) {
      reporter.stopping(reason);
      const error = await undo.run(log);
      if (error !== undefined) throw error;
    },
  };
}

function makeTap(
  options: RelayOptions,
  offloads: readonly Offload[],
  engine: NativeEngine,
  onEvent: (event: NativeEvent) => void,
): NativeRelay {
  const { tap, mtu, allowedCids, onSecondPeer, burstBytes, interfaceConfig } = options;
  try {
    return engine.createRelay({ tap, mtu, allowedCids, onSecondPeer, burstBytes, interfaceConfig, offloads }, onEvent);
  } catch (error) {
    throw tapFailure(error, tap);
  }
}

/** The marks say what the port is for; a network that is not named leaves none. */
function portOf({ bridge, tap, network, endpoint }: RelayOptions, tag: number): PortSpec {
  return { bridge, tap, tag, marks: { 'arca-network': network ?? '', 'arca-endpoint': endpointText(endpoint) } };
}

function openEndpoint(native: NativeRelay, { role, endpoint }: RelayOptions): void {
  try {
    if (role === 'listen') native.listen(endpoint);
    else native.dial(endpoint);
  } catch (error) {
    throw listenFailure(error, endpoint);
  }
}

function detaching(keeper: Keeper, { tap, bridge }: PortSpec, log: Logger): () => Promise<void> {
  return async () => {
    try {
      const result = await keeper.stop(DETACH_TIMEOUT_MS);
      if (result === 'foreign') log.warn({ tap, bridge }, 'the port is not ours any more and was left alone');
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new ArcaError(
        'cleanup-incomplete',
        `port ${tap} may be left on bridge ${bridge}; the next start of this relay removes it, ` +
          `or: ovs-vsctl --if-exists del-port ${bridge} ${tap}. Why: ${why}`,
        { cause },
      );
    }
  };
}

function metricsOf(native: NativeRelay, reporter: Reporter, version: string) {
  let renderer: Promise<MetricsRenderer> | undefined;
  return async () => {
    renderer ??= import('../metrics.js').then(({ createMetricsRenderer }) => createMetricsRenderer());
    return (await renderer).render({ counters: native.counters(), isReady: reporter.isReady(), version });
  };
}

function factsOf(options: RelayOptions, tag: number, { bridge }: FoundBridge, { ifindex }: NativeRelay): RelayFacts {
  const { tap, network, role, endpoint, mtu } = options;
  return {
    ...{ tap, ifindex, tag, bridge: bridge.name, datapathType: bridge.datapathType },
    ...(network !== undefined && { network }),
    ...{ role, endpoint: endpointText(endpoint), mtu, pid: process.pid },
  };
}
