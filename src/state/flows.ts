/**
 * The flows of a bridge that a state file asks for. Ours carry one cookie; flows without it are never changed. vswitchd
 * keeps flows in memory only: after its restart none of ours is there, and they are applied again.
 */
import { access } from 'node:fs/promises';
import { ArcaError } from '../errors.js';
import { CommandError } from '../exec.js';
import { managementSocket, type OvsPlaces } from '../ovs/places.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { type Flow, flowKey, type PortNumbers, parseFlows, runOfctl } from './flows-parser.js';
import type { DesiredFlow } from './model.js';

/** `arcastat` in ASCII. */
export const FLOW_COOKIE = '0x6172636173746174';

/** Where `dump-flows --no-names` prints ports whose names flows-parser.ts takes. */
const PORT_NUMBER = /\b(in_port=|output:)(\d+)\b/g;

export interface BridgeFlows {
  readonly own: readonly Flow[];
  /** Of others: of OVS itself (`priority=0 actions=NORMAL`), of a controller, added by hand. */
  readonly foreign: readonly Flow[];
}

export interface FlowPlan {
  readonly add: readonly Flow[];
  /** The same match and priority, with other actions. */
  readonly change: readonly { readonly from: Flow; readonly to: Flow }[];
  readonly remove: readonly Flow[];
  /** Flows of others in the place of ours, with other actions: to add ours would replace them. */
  readonly foreign: readonly Flow[];
}

/** Pure. A flow of somebody else that does what ours would do serves as ours, and stays somebody else's. */
export function planFlows(desired: readonly Flow[], actual: BridgeFlows): FlowPlan {
  const own = new Map(actual.own.map((flow) => [flowKey(flow), flow]));
  const others = new Map(actual.foreign.map((flow) => [flowKey(flow), flow]));
  const wanted = new Set(desired.map(flowKey));
  const add: Flow[] = [];
  const change: { from: Flow; to: Flow }[] = [];
  const foreign: Flow[] = [];
  for (const flow of desired) {
    const [ours, theirs] = [own.get(flowKey(flow)), others.get(flowKey(flow))];
    if (ours !== undefined) {
      if (!isSame(ours, flow)) change.push({ from: ours, to: flow });
    } else if (theirs === undefined) add.push(flow);
    else if (!isSame(theirs, flow)) foreign.push(theirs);
  }
  return { add, change, remove: actual.own.filter((flow) => !wanted.has(flowKey(flow))), foreign };
}

export function isEmptyFlowPlan({ add, change, remove, foreign }: FlowPlan): boolean {
  return add.length + change.length + remove.length + foreign.length === 0;
}

/** As ovs-ofctl(8) reads it, without the cookie. */
export function flowText({ table, match, actions, other }: Flow): string {
  const parts = [table === 0 ? '' : `table=${table}`, other, match].filter(Boolean);
  return `${parts.join(',')}${parts.length === 0 ? '' : ' '}actions=${actions}`;
}

/** The bridge has to be in vswitchd: rejects with `bridge-missing`, `ovs-unreachable` or `ovs-timeout`. */
export async function readOwnFlows(places: OvsPlaces, bridge: string, call: CallOptions): Promise<BridgeFlows> {
  const text = await askBridge(places, bridge, ['--no-stats', '--no-names', 'dump-flows'], call);
  const own: Flow[] = [];
  const foreign: Flow[] = [];
  for (const line of text.split('\n')) {
    const read = readDumped(line);
    if (read !== undefined) (read.cookie === FLOW_COOKIE ? own : foreign).push(read.flow);
  }
  return { own, foreign };
}

/** Our flows as a state file would have them, with names of ports: OVS may number the ports of a bridge that it makes anew otherwise. */
export async function readFlowsByName(places: OvsPlaces, bridge: string, call: CallOptions): Promise<DesiredFlow[]> {
  const left = deadlineOf(call);
  const numbers = await readPortNumbers(places, bridge, left());
  const names = new Map([...numbers].map(([name, number]) => [String(number), name]));
  const { own } = await readOwnFlows(places, bridge, left());
  return own.map((flow) => {
    const text = flowText(flow).replace(PORT_NUMBER, (all, before: string, number: string) => {
      const name = names.get(number);
      return name === undefined ? all : `${before}"${name}"`;
    });
    return { text, line: 0 };
  });
}

/** What `applyFlows` would do. Changes nothing. */
export async function compareFlows(
  places: OvsPlaces,
  bridge: string,
  flows: readonly DesiredFlow[],
  call: CallOptions,
): Promise<FlowPlan> {
  const left = deadlineOf(call);
  const numbers = await readPortNumbers(places, bridge, left());
  const desired = await parseFlows(bridge, flows, numbers, left());
  return planFlows(desired, await readOwnFlows(places, bridge, left()));
}

export interface AppliedFlows {
  readonly plan: FlowPlan;
  /** Puts our flows back as they were before. */
  undo(call: CallOptions): Promise<void>;
}

/**
 * Makes our flows those that are asked for, all at once or none. Rejects with `state-foreign` when a flow of somebody
 * else is in the way, and with `command-failed` when the switch refuses one; then nothing has changed.
 */
export async function applyFlows(
  places: OvsPlaces,
  bridge: string,
  flows: readonly DesiredFlow[],
  call: CallOptions,
): Promise<AppliedFlows> {
  const left = deadlineOf(call);
  const numbers = await readPortNumbers(places, bridge, left());
  const desired = await parseFlows(bridge, flows, numbers, left());
  const before = await readOwnFlows(places, bridge, left());
  const plan = planFlows(desired, before);
  await carryOut(places, bridge, plan, left());
  return {
    plan,
    async undo(undoCall) {
      const leftToUndo = deadlineOf(undoCall);
      const now = await readOwnFlows(places, bridge, leftToUndo());
      await carryOut(places, bridge, planFlows(before.own, now), leftToUndo());
    },
  };
}

async function carryOut(places: OvsPlaces, bridge: string, plan: FlowPlan, call: CallOptions): Promise<void> {
  const [inTheWay] = plan.foreign;
  if (inTheWay !== undefined) {
    throw new ArcaError(
      'state-foreign',
      `bridge ${bridge} has a flow of somebody else with the same match and priority: ${flowText(inTheWay)}. ` +
        'Give ours another priority, or remove that flow',
    );
  }
  const lines = bundleLines(plan);
  if (lines.length > 0) {
    await askBridge(places, bridge, ['--bundle', 'add-flows'], { ...call, input: `${lines.join('\n')}\n` }, ['-']);
  }
}

/** Pure. `cookie=X/-1` in a deletion: only flows that carry it. */
function bundleLines({ add, change, remove }: FlowPlan): string[] {
  const deletion = ({ table, match }: Flow): string =>
    ['delete_strict ', `cookie=${FLOW_COOKIE}/-1,table=${table}`, match && `,${match}`].join('');
  const addition = ({ table, match, actions, other }: Flow): string =>
    `add ${[`cookie=${FLOW_COOKIE}`, `table=${table}`, other, match, `actions=${actions}`].filter(Boolean).join(',')}`;
  return [
    ...remove.map(deletion),
    // Timeouts and flags of a flow stay when it is only added again.
    ...change.flatMap(({ from, to }) => [deletion(from), addition(to)]),
    ...add.map(addition),
  ];
}

/** `1(eth0): addr:...` */
async function readPortNumbers(places: OvsPlaces, bridge: string, call: CallOptions): Promise<PortNumbers> {
  const text = await askBridge(places, bridge, ['dump-ports-desc'], call);
  const numbers = new Map<string, number | 'LOCAL'>();
  for (const [, number = '', name = ''] of text.matchAll(/^ (\d+|LOCAL)\((.+)\): addr:/gm)) {
    numbers.set(name, number === 'LOCAL' ? number : Number(number));
  }
  return numbers;
}

async function askBridge(
  places: OvsPlaces,
  bridge: string,
  command: readonly string[],
  call: CallOptions & { readonly input?: string },
  after: readonly string[] = [],
): Promise<string> {
  const socket = managementSocket(places, bridge);
  try {
    await access(socket);
  } catch (cause) {
    throw new ArcaError('bridge-missing', `ovs-vswitchd has no bridge ${bridge}: there is no ${socket}`, { cause });
  }
  const output = await runOfctl([...command, `unix:${socket}`, ...after], call);
  if (!(output instanceof CommandError)) return output.stdout;
  const isChange = call.input !== undefined;
  throw new ArcaError(
    isChange ? 'command-failed' : 'ovs-unreachable',
    isChange
      ? `bridge ${bridge} refused the flows, and none was changed: ${refusal(output)}`
      : `ovs-vswitchd does not tell about bridge ${bridge} on ${socket}: ${refusal(output)}`,
    { cause: output },
  );
}

/** The switch's own words come before those of ovs-ofctl. */
function refusal({ output, message }: CommandError): string {
  return output.stderr.trim().split('\n')[0] || message;
}

/** ` cookie=0x1, table=1, idle_timeout=5, send_flow_rem priority=5,arp actions=drop`; of what is 0, nothing is printed. */
function readDumped(line: string): { readonly cookie: string; readonly flow: Flow } | undefined {
  const [, cookie = '0x0', table = '0', rest = '', actions] =
    /^ (?:cookie=(0x[0-9a-f]+), )?(?:table=(\d+), )?(.*?)actions=(.*)$/.exec(line) ?? [];
  if (actions === undefined) return undefined;
  const words = rest.trim().split(/,? /).filter(Boolean);
  const isOther = (word: string): boolean => /^(\w+_timeout=|importance=|send_flow_rem|\w+_counts$)/.test(word);
  const [match = ''] = words.filter((word) => !isOther(word));
  // What OpenFlow 1.0 adds has `reset_counts`, which speaks of the moment when it was added.
  const other = words.filter((word) => isOther(word) && word !== 'reset_counts').join(',');
  return { cookie, flow: { table: Number(table), match, actions, other } };
}

function isSame(one: Flow, other: Flow): boolean {
  return one.actions === other.actions && one.other === other.other;
}
