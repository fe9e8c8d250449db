/** Everything that stands between a state file and this host, read and planned; nothing here changes anything. */
import { ArcaError } from '../errors.js';
import { type OvsPlaces, ovsPlaces } from '../ovs/places.js';
import type { OvsdbClient } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import type { Change } from './changes.js';
import { type ActualDatabase, readDatabase } from './database.js';
import type { Edit } from './edits.js';
import type { DesiredState } from './model.js';
import { type Foreign, planDatabase } from './plan-database.js';
import { readRunningBridges, type Trouble, troublesOf } from './troubles.js';

/** What is wanted, and where. */
export interface StateContext {
  readonly state: DesiredState;
  readonly places: OvsPlaces;
  /** Bridges and ports of those names that nobody marked become ours. */
  readonly adopt: boolean;
}

/** `ovsSocketPath` comes before what the file says, and that before where ovs-vsctl looks. */
export function stateContext(
  state: DesiredState,
  { ovsSocketPath, adopt }: { readonly ovsSocketPath: string | undefined; readonly adopt: boolean },
  env: NodeJS.ProcessEnv,
): StateContext {
  return { state, places: ovsPlaces(ovsSocketPath ?? state.ovsdb.socketPath, env), adopt };
}

export interface Plan {
  /** As it was read. */
  readonly database: ActualDatabase;
  readonly changes: readonly Change[];
  readonly edits: readonly Edit[];
  /** Nothing may be done while this is not empty. */
  readonly foreign: readonly Foreign[];
  /** What stands in the database as it should, and does not forward. */
  readonly troubles: readonly Trouble[];
}

export async function makePlan(context: StateContext, client: OvsdbClient, call: CallOptions): Promise<Plan> {
  const { state, places, adopt } = context;
  const left = deadlineOf(call);
  const database = await readDatabase(client, left());
  const { foreign, changes, edits } = planDatabase(state.bridges, database, { adopt });
  const troubles = troublesOf(state.bridges, database, await readRunningBridges(places, left()));
  return { database, changes, edits, foreign, troubles };
}

/** Throws `state-foreign`, which names all that is. */
export function refuseForeign({ foreign }: Plan): void {
  if (foreign.length === 0) return;
  const lines = foreign.map(({ path, why }) => `${path}: ${why}`);
  const mend = foreign.every(({ isAdoptable }) => isAdoptable)
    ? '--adopt makes it ours: what the file says of it is changed, and it goes when the file does not name it any more'
    : 'take other names, or remove what is in the way';
  throw new ArcaError('state-foreign', `${lines.join('; ')}. Nothing was done; ${mend}`, { details: { foreign } });
}
