/**
 * Makes this host as a state file says: the database in one transaction, then what vswitchd and the kernel do with it.
 * When something fails after the transaction, all of it is taken back where that can be, and what can't be is told.
 */
import { ArcaError } from '../errors.js';
import { ovsdbFailure } from '../ovs/failures.js';
import { awaitVswitchd, syncWithVswitchd } from '../ovs/sync.js';
import { type OvsdbClient, withOvsdb } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf, RpcError, type RpcTarget } from '../ovsdb/json-rpc.js';
import { applyAllFlows } from './bridge-flows.js';
import { commit } from './commit.js';
import { readDatabase } from './database.js';
import { applyAllLinks, prepareAllLinks, withRemembered } from './device-links.js';
import { inverseOf } from './edits.js';
import { type Kept, keepOurs, putBack } from './kept.js';
import type { Remembered } from './links.js';
import type { DesiredState } from './model.js';
import type { Committed } from './operations.js';
import { makePlan, type Plan, refuseForeign, type StateContext } from './plan.js';
import { readRunningBridges, type Trouble, troublesOf } from './troubles.js';
import { type Done, takeBack } from './undoing.js';

export interface ApplyOptions extends CallOptions {
  readonly context: StateContext;
  /** Is shown a plan that has changes; rejects when it is not to be carried out. Its time does not count. */
  readonly confirm: (plan: Plan) => Promise<void>;
  /** A plan that is another one by the time that it is carried out needs nobody's yes. */
  readonly mayReplan: boolean;
}

/** Somebody else's changes between plan and transaction: so often it is planned anew. */
const MAX_PLANS = 5;
/** RFC 7047: an `<id>`. */
const TURN_LOCK = 'arca_state';
/** The time to apply may be used up when it is to be taken back. */
const TAKE_BACK_TIMEOUT_MS = 10_000;

/**
 * Resolves with what was done; a plan without changes changed nothing. Rejects with `state-foreign`, `state-changed`
 * and what `confirm` rejects with when nothing was done, with `state-incomplete` otherwise, with `Incomplete` as details.
 * The signal counts until the transaction begins; from there it is finished, or taken back.
 */
export async function applyState(options: ApplyOptions): Promise<Plan> {
  const { context, confirm, timeoutMs, signal } = options;
  const first = await readPlan(context, { timeoutMs, signal });
  if (first.changes.length === 0) return first;
  await confirm(first);
  if (signal?.aborted) throw new ArcaError('timed-out', 'stopped before anything was changed');
  return withOvs(context, { timeoutMs }, async (client, left) => {
    await waitForTurn(client, left());
    return carryOut(client, first, options, left);
  });
}

/** A plan that may be carried out: rejects with `state-foreign` otherwise. */
export function readPlan(context: StateContext, call: CallOptions): Promise<Plan> {
  return withOvs(context, call, async (client, left) => {
    const plan = await makePlan(context, client, left());
    refuseForeign(plan);
    return plan;
  });
}

export async function withOvs<T>(
  { places }: Pick<StateContext, 'places'>,
  call: CallOptions,
  use: (client: OvsdbClient, left: () => CallOptions) => Promise<T>,
): Promise<T> {
  const target: RpcTarget = { transport: 'unix', path: places.socketPath };
  try {
    return await withOvsdb(target, call, use);
  } catch (error) {
    throw ovsdbFailure(error, target, 'looking at bridges and ports');
  }
}

/** One apply at a time: the server gives the lock to the next when this connection ends, however that is. */
async function waitForTurn(client: OvsdbClient, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const lock = await client.lock(TURN_LOCK, () => {}, left());
  try {
    await lock.whenHeld(left());
  } catch (cause) {
    if (!(cause instanceof RpcError) || cause.failure !== 'timed-out') throw cause;
    throw new ArcaError('state-changed', 'another `arca state apply` is at work; nothing was done. Try it again', {
      cause,
    });
  }
}

async function carryOut(
  client: OvsdbClient,
  first: Plan,
  options: ApplyOptions,
  left: () => CallOptions,
): Promise<Plan> {
  const { state, places, dhcp } = options.context;
  const done: Done[] = [];
  const { plan, committed, kept } = await commitPlan(client, first, options, left);
  try {
    if (committed !== undefined) {
      done.push({ changes: plan.inDatabase, undo: (call) => undoCommit(client, plan, committed, call) });
      await awaitVswitchd(client, committed.nextCfg, left());
      await requireForwarding(client, options.context, plan, left());
    }
    const links = await prepareAllLinks(state, dhcp, plan.remember, left());
    await applyAllLinks(links, dhcp, done, left());
    await applyAllFlows(state, places, plan.database, done, left());
    await forget(client, state, links.remember, left());
    return plan;
  } catch (error) {
    const restore = (call: CallOptions) => putBack(kept, options.context, call);
    throw await takeBack(error, done, restore, deadlineOf({ timeoutMs: TAKE_BACK_TIMEOUT_MS }));
  }
}

/** Addresses that were removed are not ours any more. Nothing waits for it, and vswitchd does not look at it. */
async function forget(
  client: OvsdbClient,
  state: DesiredState,
  remember: Remembered,
  call: CallOptions,
): Promise<void> {
  const left = deadlineOf(call);
  const edits = withRemembered([], state, await readDatabase(client, left()), remember);
  if (edits.length > 0) await commit(client, edits, left());
}

async function undoCommit(client: OvsdbClient, { edits }: Plan, { made }: Committed, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  await commit(client, inverseOf(edits, made), left());
  // So that its devices are gone when we say so. A vswitchd that hangs does it when it goes on.
  await syncWithVswitchd(client, left()).catch(() => {});
}

interface CommittedPlan {
  readonly plan: Plan;
  /** Nothing: there was nothing to do in the database. */
  readonly committed: Committed | undefined;
  readonly kept: Kept;
}

/** Commits the plan; plans anew when somebody else was quicker, as far as that needs no other yes. */
async function commitPlan(
  client: OvsdbClient,
  first: Plan,
  { context, mayReplan }: ApplyOptions,
  left: () => CallOptions,
): Promise<CommittedPlan> {
  for (let plan = first, attempt = 1; ; attempt++) {
    const kept = await keepOurs(context, plan.database, plan.edits, left());
    if (plan.edits.length === 0) return { plan, committed: undefined, kept };
    try {
      return { plan, committed: await commit(client, plan.edits, left()), kept };
    } catch (error) {
      if (!(error instanceof ArcaError) || error.code !== 'state-changed' || attempt === MAX_PLANS) throw error;
      plan = await makePlan(context, client, left());
      refuseForeign(plan);
      if (!mayReplan && plan.changes.length > 0 && JSON.stringify(plan.changes) !== JSON.stringify(first.changes))
        throw error;
    }
  }
}

/** Throws when vswitchd could not make what this plan changed; what was ill before and was not touched does not count. */
async function requireForwarding(
  client: OvsdbClient,
  { state, places }: StateContext,
  plan: Plan,
  call: CallOptions,
): Promise<void> {
  const left = deadlineOf(call);
  const database = await readDatabase(client, left());
  const now = troublesOf(state.bridges, database, await readRunningBridges(places, left()));
  const bad = now.filter((trouble) => isOfPlan(trouble, plan));
  if (bad.length === 0) return;
  const text = bad.map(({ path, why }) => `${path}: ${why}`).join('; ');
  throw new ArcaError('attach-failed', text, { details: { troubles: bad } });
}

function isOfPlan({ path }: Trouble, { changes, troubles }: Plan): boolean {
  const [bridge = path] = path.split(', ', 1);
  const isTouched = changes.some((change) => change.path === path || change.path === bridge);
  return isTouched || !troubles.some((before) => before.path === path);
}
