/** Everything that stands between a state file and this host, read and planned; nothing here changes anything. */
import { ArcaError } from '../errors.js';
import { type OvsPlaces, ovsPlaces } from '../ovs/places.js';
import type { OvsdbClient } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { planAllFlows } from './bridge-flows.js';
import type { Change } from './changes.js';
import { type ActualDatabase, readDatabase } from './database.js';
import { planAllLinks, withRemembered } from './device-links.js';
import { DEFAULT_DHCP_PLACE, type DhcpPlace } from './dhcp.js';
import type { Edit } from './edits.js';
import type { Remembered } from './links.js';
import type { DesiredState } from './model.js';
import { type Foreign, planDatabase } from './plan-database.js';
import { readRunningBridges, type Trouble, troublesOf } from './troubles.js';

/** What is wanted, and where. */
export interface StateContext {
  readonly state: DesiredState;
  readonly places: OvsPlaces;
  /** Bridges and ports of those names that nobody marked become ours. */
  readonly adopt: boolean;
  readonly dhcp: DhcpPlace;
}

/** `ovsSocketPath` comes before what the file says, and that before where ovs-vsctl looks. */
export function stateContext(
  state: DesiredState,
  options: { readonly ovsSocketPath: string | undefined; readonly adopt: boolean; readonly runDir: string | undefined },
  env: NodeJS.ProcessEnv,
): StateContext {
  const { ovsSocketPath, adopt, runDir } = options;
  const dhcp = runDir === undefined ? DEFAULT_DHCP_PLACE : { runDir };
  return { state, places: ovsPlaces(ovsSocketPath ?? state.ovsdb.socketPath, env), adopt, dhcp };
}

export interface Plan {
  /** As it was read. */
  readonly database: ActualDatabase;
  readonly changes: readonly Change[];
  /** Those of them that the edits make. */
  readonly inDatabase: readonly Change[];
  readonly edits: readonly Edit[];
  /** Addresses that we set or are about to set; the edits write it. */
  readonly remember: Remembered;
  readonly warnings: readonly string[];
  /** Nothing may be done while this is not empty. */
  readonly foreign: readonly Foreign[];
  /** What stands in the database as it should, and does not forward. */
  readonly troubles: readonly Trouble[];
}

export async function makePlan(context: StateContext, client: OvsdbClient, call: CallOptions): Promise<Plan> {
  const { state, places, adopt } = context;
  const left = deadlineOf(call);
  const database = await readDatabase(client, left());
  const { edits, ...inDatabase } = planDatabase(state.bridges, database, { adopt });
  const running = await readRunningBridges(places, left());
  const flows = await planAllFlows(state, places, database, running, left());
  const links = await planAllLinks(state, context.dhcp, database, edits, left());
  const changes = [...inDatabase.changes, ...links.changes, ...flows.changes];
  return {
    database,
    // What is remembered of addresses changes with them, and not by itself.
    edits: changes.length === 0 ? [] : withRemembered(edits, state, database, links.remember),
    remember: links.remember,
    changes,
    warnings: links.warnings,
    inDatabase: inDatabase.changes,
    foreign: [...inDatabase.foreign, ...flows.foreign],
    troubles: troublesOf(state.bridges, database, running),
  };
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
