/** The flows of all bridges of a state file: checked, warned of, planned as changes, and applied. */
import { ArcaError } from '../errors.js';
import type { OvsPlaces } from '../ovs/places.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { bridgePath, type Change } from './changes.js';
import { type ActualDatabase, STATE_OWNER } from './database.js';
import { applyFlows, compareFlows, type FlowPlan, flowText } from './flows.js';
import { checkFlows, type Flow, flowsInvalid } from './flows-parser.js';
import { warnOfFlows } from './flows-warnings.js';
import type { DesiredBridge, DesiredState } from './model.js';
import type { Foreign } from './plan-database.js';
import type { RunningBridges } from './troubles.js';
import type { Done } from './undoing.js';

/** Rejects with `flow-invalid`, before anything is asked of OVS. `file` is what the messages call it. */
export async function checkAllFlows({ bridges }: DesiredState, file: string, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const problems = [];
  for (const bridge of bridges) problems.push(...(await checkFlows(bridge, left())));
  if (problems.length > 0) throw flowsInvalid(file, problems);
}

/** What would stop working; a line for each. */
export function flowWarnings({ bridges }: DesiredState, file: string): string[] {
  return bridges.flatMap(({ name, flows = [] }) =>
    warnOfFlows(flows).map(({ line, text, message }) => `${file}:${line}: bridge ${name}: ${text}: ${message}`),
  );
}

export interface FlowChanges {
  readonly changes: readonly Change[];
  readonly foreign: readonly Foreign[];
}

/** What applying would do. A bridge that is not there yet, or not with its ports, gets all of its flows. */
export async function planAllFlows(
  { bridges }: DesiredState,
  places: OvsPlaces,
  database: ActualDatabase,
  running: RunningBridges,
  call: CallOptions,
): Promise<FlowChanges> {
  const left = deadlineOf(call);
  const runs = (name: string): boolean =>
    typeof running === 'object' ? running.has(name) : running === 'unknown' && hasBridge(database, name);
  const changes: Change[] = [];
  const foreign: Foreign[] = [];
  for (const bridge of lookedAfter(bridges, database)) {
    const plan = runs(bridge.name) ? await compare(places, bridge, left()) : undefined;
    if (plan === undefined) changes.push(...newFlows(bridge));
    else {
      changes.push(...flowChanges(bridge.name, plan));
      for (const flow of plan.foreign) {
        const why = 'a flow of somebody else has the same match and priority; give ours another priority';
        foreign.push({ path: flowPath(bridge.name, flow), why, isAdoptable: false });
      }
    }
  }
  return { changes, foreign };
}

/** Applies them, bridge after bridge, all of a bridge or none. What was done is pushed, also when a later one fails. */
export async function applyAllFlows(
  { bridges }: DesiredState,
  places: OvsPlaces,
  database: ActualDatabase,
  done: Done[],
  call: CallOptions,
): Promise<Change[]> {
  const left = deadlineOf(call);
  const all: Change[] = [];
  for (const { name, flows = [] } of lookedAfter(bridges, database)) {
    const { plan, undo } = await applyFlows(places, name, flows, left());
    const changes = flowChanges(name, plan);
    if (changes.length > 0) done.push({ changes, undo });
    all.push(...changes);
  }
  return all;
}

/** Bridges that were given up to others, because they hold ports of theirs, lose our flows. */
function lookedAfter(bridges: readonly DesiredBridge[], database: ActualDatabase): readonly DesiredBridge[] {
  const givenUp = database.bridges.filter(
    ({ name, owner, ports }) =>
      owner === STATE_OWNER &&
      !bridges.some((bridge) => bridge.name === name) &&
      ports.some((port) => port.name !== name && port.owner !== STATE_OWNER),
  );
  return [
    ...bridges.filter(({ flows }) => flows !== undefined),
    ...givenUp.map(
      ({ name }) => ({ name, datapathType: 'system', ports: [], tag: undefined, flows: [] }) satisfies DesiredBridge,
    ),
  ];
}

function hasBridge({ bridges }: ActualDatabase, name: string): boolean {
  return bridges.some((bridge) => bridge.name === name);
}

/** Nothing: it can't be told before the ports that the flows name are there. */
async function compare(
  places: OvsPlaces,
  { name, flows = [] }: DesiredBridge,
  call: CallOptions,
): Promise<FlowPlan | undefined> {
  try {
    return await compareFlows(places, name, flows, call);
  } catch (error) {
    // The flows as such were checked: what is wrong is a port.
    if (error instanceof ArcaError && error.code === 'flow-invalid') return undefined;
    throw error;
  }
}

function newFlows({ name, flows = [] }: DesiredBridge): Change[] {
  return flows.map(({ text }) => ({
    ...{ kind: 'create', object: 'flow', path: `${bridgePath(name)}, flow ${text}`, fields: [] },
  }));
}

function flowChanges(bridge: string, { add, change, remove }: FlowPlan): Change[] {
  const of = (kind: 'create' | 'delete', flow: Flow): Change => ({
    ...{ kind, object: 'flow', path: flowPath(bridge, flow), fields: [] },
  });
  return [
    ...remove.map((flow) => of('delete', flow)),
    ...change.map(
      ({ from, to }): Change => ({
        ...{ kind: 'update', object: 'flow', path: `${bridgePath(bridge)}, flow ${to.match}` },
        fields: [{ name: 'actions', before: from.actions, after: to.actions }],
      }),
    ),
    ...add.map((flow) => of('create', flow)),
  ];
}

function flowPath(bridge: string, flow: Flow): string {
  return `${bridgePath(bridge)}, flow ${flowText(flow)}`;
}
