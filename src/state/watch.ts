/**
 * Keeps addresses and flows as a state file says, while vswitchd and the database come and go: flows live in vswitchd's
 * memory only, and devices of a bridge that is made anew have no addresses. One loop that looks at everything whenever
 * something changed. Bridges and ports are not changed here: that somebody else changed them is told.
 */
import { toArcaError } from '../errors.js';
import { createLatch } from '../latch.js';
import type { Logger } from '../log.js';
import { OVS_DATABASE } from '../ovs/port-commands.js';
import { syncWithVswitchd } from '../ovs/sync.js';
import { connectVswitchd } from '../ovs/vswitchd.js';
import type { OvsdbClient } from '../ovsdb/client.js';
import type { CallOptions, RpcConnection } from '../ovsdb/json-rpc.js';
import { deadlineOf } from '../ovsdb/json-rpc.js';
import { openOvsdbLink } from '../ovsdb/link.js';
import { applyAllFlows } from './bridge-flows.js';
import { type Change, changeText } from './changes.js';
import { commit } from './commit.js';
import { type ActualDatabase, readDatabase, STATE_OWNER } from './database.js';
import { applyAllLinks, prepareAllLinks, rememberedIn, withRemembered } from './device-links.js';
import type { Remembered } from './links.js';
import type { DesiredState } from './model.js';
import type { StateContext } from './plan.js';
import { planDatabase } from './plan-database.js';
import type { Done } from './undoing.js';

export interface WatchOptions {
  readonly context: StateContext;
  /** For one look. */
  readonly timeoutMs: number;
  readonly log: Logger;
  /** Ends it; that is no failure. */
  readonly signal: AbortSignal;
  /** Called once, when everything was looked at for the first time. */
  readonly onReady: () => void;
}

/** What changes without a word of the database: flows that somebody deletes, addresses. */
const LOOK_EVERY_MS = 5_000;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;
const CONNECT_TIMEOUT_MS = 2_000;

const MONITOR = {
  Bridge: { columns: { name: 'plain', datapath_type: 'plain', ports: 'set', external_ids: 'map' } },
  Port: { columns: { name: 'plain', tag: 'plain', trunks: 'set', external_ids: 'map' } },
  Interface: { columns: { name: 'plain', ofport: 'plain', error: 'plain' } },
} as const;

/** Resolves when the signal has ended it. */
export async function watchState(options: WatchOptions): Promise<void> {
  const { context, log, signal, onReady } = options;
  const { places } = context;
  const latch = createLatch();
  const target = { transport: 'unix', path: places.socketPath } as const;
  const link = openOvsdbLink({ target, database: OVS_DATABASE, monitor: MONITOR, onChange: latch.set });
  const tell = createTeller(log);
  let vswitchd: RpcConnection | undefined;
  let retryMs = FIRST_RETRY_MS;
  let isReady = false;

  async function look(): Promise<void> {
    const left = deadlineOf({ timeoutMs: options.timeoutMs, signal });
    const { client } = await link.waitForSession({ ...left(), timeoutMs: CONNECT_TIMEOUT_MS });
    if (!vswitchd?.isOpen()) {
      vswitchd = await connectVswitchd(places, { ...left(), timeoutMs: CONNECT_TIMEOUT_MS });
      void vswitchd?.closed.then(latch.set);
      // One that has just started has made none of its bridges yet.
      await syncWithVswitchd(client, left());
    }
    const mended = await mend(context, client, tell.drift, left());
    if (mended.length > 0) log.info({ changes: mended.map(changeText) }, 'applied again');
    tell.well();
    if (!isReady) onReady();
    isReady = true;
  }

  try {
    while (!signal.aborted) {
      try {
        await look();
        retryMs = FIRST_RETRY_MS;
        await latch.wait({ timeoutMs: LOOK_EVERY_MS, signal });
      } catch (error) {
        if (signal.aborted) return;
        tell.trouble(toArcaError(error).message);
        await latch.wait({ timeoutMs: retryMs, signal });
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  } finally {
    vswitchd?.close();
    await link.stop();
  }
}

/** Addresses and flows of what is there and ours. */
async function mend(
  { state, places, dhcp }: StateContext,
  client: OvsdbClient,
  tellDrift: (changes: readonly Change[]) => void,
  call: CallOptions,
): Promise<Change[]> {
  const left = deadlineOf(call);
  const database = await readDatabase(client, left());
  tellDrift(planDatabase(state.bridges, database, { adopt: false }).changes);
  const there = presentPart(state, database);
  const write = async (remember: Remembered, now: ActualDatabase): Promise<void> => {
    const edits = withRemembered([], there, now, remember);
    if (edits.length > 0) await commit(client, edits, left());
  };
  const done: Done[] = [];
  const links = await prepareAllLinks(there, dhcp, rememberedIn(database), left());
  // As apply does: an address is remembered before it is set, and one that goes is forgotten after it.
  await write(links.rememberBefore, database);
  const changes = await applyAllLinks(links, dhcp, done, left());
  if (changes.length > 0) await write(links.remember, await readDatabase(client, left()));
  return [...changes, ...(await applyAllFlows(there, places, database, done, left()))];
}

/** What of the file stands on bridges that are there and carry our mark. */
function presentPart(state: DesiredState, { bridges }: ActualDatabase): DesiredState {
  const ours = new Set(bridges.filter(({ owner }) => owner === STATE_OWNER).map(({ name }) => name));
  return {
    ...state,
    bridges: state.bridges.filter(({ name }) => ours.has(name)),
    links: state.links.filter(({ bridge }) => bridge === undefined || ours.has(bridge)),
  };
}

interface Teller {
  drift(changes: readonly Change[]): void;
  trouble(message: string): void;
  well(): void;
}

/** Each thing is told when it begins, and not at each look. */
function createTeller(log: Logger): Teller {
  let drift = '';
  let trouble = '';
  return {
    drift(changes) {
      const text = changes.map(changeText).join('; ');
      if (text !== drift && text !== '') {
        log.warn(
          { changes: changes.map(changeText) },
          'bridges or ports are not as the file says; arca state apply mends it',
        );
      }
      drift = text;
    },
    trouble(message) {
      if (message !== trouble)
        log.warn({ reason: message }, 'can not look after addresses and flows now; trying again');
      trouble = message;
    },
    well() {
      if (trouble !== '') log.info('looking after addresses and flows again');
      trouble = '';
    },
  };
}
