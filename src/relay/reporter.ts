/**
 * Knows what a relay is and how it fares, and tells it: in the log, to whoever started it, and as status. It changes
 * nothing.
 */
import { ArcaError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Agreed, NativeEvent, Peer, RelayCounters } from '../native.js';
import type { Trouble } from '../ovs/keeper.js';
import type { Notifier, StartStep } from './notify.js';

export type RelayState = 'starting' | 'ready' | 'degraded' | 'stopping';

/** What does not change while the relay runs. */
export interface RelayFacts {
  readonly tap: string;
  readonly ifindex: number;
  readonly tag: number;
  readonly bridge: string;
  readonly datapathType: string;
  readonly network?: string;
  readonly role: 'listen' | 'dial';
  /** As `--listen` and `--connect` take it. */
  readonly endpoint: string;
  readonly mtu: number;
  readonly pid: number;
}

export interface RelayReport extends RelayFacts {
  readonly version: string;
  readonly state: RelayState;
  /** Set while `degraded`. */
  readonly trouble?: Trouble;
  /** OpenFlow port number. */
  readonly ofport: number;
  /** Set while a peer is connected. */
  readonly peer?: Peer;
  readonly agreed?: Agreed;
  readonly counters: RelayCounters;
}

export interface Reporter {
  stepDone(step: StartStep): void;
  /** The start is over: tells `ready`, or `degraded` if there was trouble by then. */
  started(facts: RelayFacts): void;
  /** From the keeper: the port is in trouble, or with nothing, forwards again. */
  portChanged(trouble: Trouble | undefined, ofport: number): void;
  /** From the addon. */
  nativeEvent(event: NativeEvent): void;
  stopping(reason: string): void;
  isReady(): boolean;
  status(facts: RelayFacts, counters: RelayCounters): RelayReport;
  /** Settles with what ends the relay while it runs. */
  readonly failed: Promise<ArcaError>;
}

export interface ReporterOptions {
  readonly tap: string;
  readonly notifier: Notifier;
  readonly log: Logger;
  readonly version: string;
}

export function createReporter({ tap, notifier, log, version }: ReporterOptions): Reporter {
  let state: RelayState = 'starting';
  let facts: RelayFacts | undefined;
  let ofport = 0;
  let trouble: Trouble | undefined;
  let link: { readonly peer: Peer; readonly agreed: Agreed } | undefined;
  let fail: (error: ArcaError) => void = () => {};
  const failed = new Promise<ArcaError>((resolve) => {
    fail = resolve;
  });

  function tellState(): void {
    if (facts === undefined || state === 'stopping') return;
    if (trouble === undefined) {
      state = 'ready';
      log.info({ ...facts, ofport }, 'ready');
      notifier.emit({ event: 'ready', ...facts, ofport });
    } else {
      state = 'degraded';
      log.warn({ tap, bridge: facts.bridge, ...trouble }, 'degraded');
      notifier.emit({ event: 'degraded', ...trouble });
    }
  }

  return {
    failed,
    isReady: () => state === 'ready',

    stepDone(step) {
      log.debug({ step }, 'step done');
      notifier.emit({ event: 'starting', step });
    },

    started(now) {
      facts = now;
      tellState();
    },

    portChanged(nowTrouble, nowOfport) {
      trouble = nowTrouble;
      ofport = nowOfport;
      tellState();
    },

    nativeEvent(event) {
      switch (event.type) {
        case 'peer-connected':
        case 'peer-updated':
          link = event;
          log.info({ peer: event.peer, agreed: event.agreed }, event.type);
          notifier.emit({ event: event.type, peer: event.peer, agreed: event.agreed });
          return;
        case 'peer-gone': {
          link = undefined;
          const { peer, reason, detail } = event;
          log.info({ peer, reason, detail }, event.type);
          notifier.emit({ event: event.type, peer, reason, detail });
          return;
        }
        case 'peer-refused':
          log.warn({ peer: event.peer, reason: event.reason }, event.type);
          notifier.emit({ event: event.type, peer: event.peer, reason: event.reason });
          return;
        case 'dial-failed':
          log.warn({ code: event.code, detail: event.detail }, event.type);
          notifier.emit({ event: event.type, code: event.code, detail: event.detail });
          return;
        case 'tap-lost':
          fail(new ArcaError('tap-lost', `the TAP device ${tap} is gone (${event.detail}); start the relay again`));
          return;
      }
    },

    stopping(reason) {
      state = 'stopping';
      log.info({ reason }, 'stopping');
      notifier.emit({ event: 'stopping', reason });
    },

    status(now, counters) {
      return {
        version,
        state,
        ...(trouble && { trouble }),
        ...now,
        ofport,
        ...(link && { peer: link.peer, agreed: link.agreed }),
        counters,
      };
    },
  };
}
