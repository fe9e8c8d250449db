/**
 * Makes this host as a state file says: the database in one transaction, then what vswitchd and the kernel do with it.
 * When something fails after the transaction, all of it is taken back where that can be, and what can't be is told.
 */
import { ArcaError, type ErrorCode, toArcaError } from '../errors.js';
import { ovsdbFailure } from '../ovs/failures.js';
import { awaitVswitchd, syncWithVswitchd } from '../ovs/sync.js';
import { type OvsdbClient, withOvsdb } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf, type RpcTarget } from '../ovsdb/json-rpc.js';
import type { Change } from './changes.js';
import { commit } from './commit.js';
import { readDatabase } from './database.js';
import { inverseOf } from './edits.js';
import type { Committed } from './operations.js';
import { makePlan, type Plan, refuseForeign, type StateContext } from './plan.js';
import { readRunningBridges, type Trouble, troublesOf } from './troubles.js';

export interface ApplyOptions extends CallOptions {
  readonly context: StateContext;
  /** Is shown a plan that has changes; rejects when it is not to be carried out. Its time does not count. */
  readonly confirm: (plan: Plan) => Promise<void>;
  /** A plan that is another one by the time that it is carried out needs nobody's yes. */
  readonly mayReplan: boolean;
}

/** What a failure after the transaction left, in `details`. */
export interface Incomplete {
  /** Paths of what had been changed when it failed. */
  readonly applied: readonly string[];
  readonly rolledBack: readonly string[];
  /** What is still in place. */
  readonly left: readonly string[];
}

/** Somebody else's changes between plan and transaction: so often it is planned anew. */
const MAX_PLANS = 5;
/** The time to apply may be used up when it is to be taken back. */
const TAKE_BACK_TIMEOUT_MS = 10_000;

/**
 * Resolves with what was done; a plan without changes changed nothing. Rejects with `state-foreign`, `state-changed`
 * and what `confirm` rejects with when nothing was done, with `state-incomplete` and `Incomplete` otherwise.
 * The signal counts until the transaction begins; from there it is finished, or taken back.
 */
export async function applyState(options: ApplyOptions): Promise<Plan> {
  const { context, confirm, timeoutMs, signal } = options;
  const first = await readPlan(context, { timeoutMs, signal });
  if (first.changes.length === 0) return first;
  await confirm(first);
  if (signal?.aborted) throw new ArcaError('timed-out', 'stopped before anything was changed');
  return withOvs(context, { timeoutMs }, (client, left) => carryOut(client, first, options, left));
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
  { places }: StateContext,
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

async function carryOut(
  client: OvsdbClient,
  first: Plan,
  options: ApplyOptions,
  left: () => CallOptions,
): Promise<Plan> {
  const { context } = options;
  const { plan, committed } = await commitPlan(client, first, options, left);
  if (committed === undefined) return plan;
  try {
    await awaitVswitchd(client, committed.nextCfg, left());
    await requireForwarding(client, context, plan, left());
    return plan;
  } catch (error) {
    throw await takeBack(error, client, plan, committed);
  }
}

interface CommittedPlan {
  readonly plan: Plan;
  /** Nothing: somebody else has done it already. */
  readonly committed: Committed | undefined;
}

/** Commits the plan; plans anew when somebody else was quicker, as far as that needs no other yes. */
async function commitPlan(
  client: OvsdbClient,
  first: Plan,
  { context, mayReplan }: ApplyOptions,
  left: () => CallOptions,
): Promise<CommittedPlan> {
  for (let plan = first, attempt = 1; ; attempt++) {
    try {
      return { plan, committed: await commit(client, plan.edits, left()) };
    } catch (error) {
      if (!(error instanceof ArcaError) || error.code !== 'state-changed' || attempt === MAX_PLANS) throw error;
      plan = await makePlan(context, client, left());
      refuseForeign(plan);
      if (plan.changes.length === 0) return { plan, committed: undefined };
      if (!mayReplan && JSON.stringify(plan.changes) !== JSON.stringify(first.changes)) throw error;
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

/** Takes everything back that was done, and gives the error that says what is in place. */
async function takeBack(cause: unknown, client: OvsdbClient, plan: Plan, committed: Committed): Promise<ArcaError> {
  const { code, message } = toArcaError(cause);
  const paths = pathsOf(plan.changes);
  const left = deadlineOf({ timeoutMs: TAKE_BACK_TIMEOUT_MS });
  try {
    await commit(client, inverseOf(plan.edits, committed.made), left());
  } catch (error) {
    const why = toArcaError(error);
    const text = why.code === 'state-changed' ? 'somebody else has changed it since' : why.message;
    return incomplete(cause, `${message}. It could not be taken back: ${text}`, code, {
      applied: paths,
      rolledBack: [],
      left: paths,
    });
  }
  // So that its devices are gone when we say so. One that hangs is not waited for longer.
  await syncWithVswitchd(client, left()).catch(() => {});
  return incomplete(cause, `${message}. All of it was taken back`, code, {
    applied: paths,
    rolledBack: paths,
    left: [],
  });
}

function incomplete(cause: unknown, message: string, code: ErrorCode, what: Incomplete): ArcaError {
  const still = what.left.length === 0 ? '' : `; still in place: ${what.left.join('; ')}`;
  return new ArcaError('state-incomplete', `${message}${still}`, { cause, details: { code, ...what } });
}

function pathsOf(changes: readonly Change[]): string[] {
  return changes.map(({ kind, path }) => `${kind} ${path}`);
}
