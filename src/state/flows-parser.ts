/**
 * Flows as ovs-ofctl's own parser reads them: what is wrong with one, and the form in which a switch tells it. The parser
 * needs no switch, so that a state file is checked before anything is changed, and before its bridges exist.
 */
import { ArcaError } from '../errors.js';
import { CommandError, type Output, run } from '../exec.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import type { DesiredBridge, DesiredFlow } from './model.js';

/**
 * One version for all that is read and written: the same flow is written differently in another. It is the first that
 * has bundles, which change many flows at once or none.
 */
export const OPENFLOW = '--protocols=OpenFlow14';

/** A flow as `dump-flows --no-stats --no-names` prints it, without its cookie: two that are the same read the same. */
export interface Flow {
  readonly table: number;
  /** With the priority, as `priority=50,arp`; empty: matches all with the default priority. */
  readonly match: string;
  readonly actions: string;
  /** Timeouts and flags, which ours never have. */
  readonly other: string;
}

export interface FlowProblem {
  /** In the state file, from 1. */
  readonly line: number;
  readonly bridge: string;
  readonly text: string;
  /** What ovs-ofctl says, or what we can't do with it. */
  readonly message: string;
}

/** OpenFlow port numbers by name. */
export type PortNumbers = ReadonlyMap<string, number | 'LOCAL'>;

/** What the flows of a state file can't have: they stay, and are told from others by our cookie. */
const NOT_OURS =
  /(?:^|[\s,])(cookie|idle_timeout|hard_timeout|importance|send_flow_rem|check_overlap|reset_counts|no_packet_counts|no_byte_counts|out_port|out_group)\b/;
/** A port by its name, in the two places where we know one: in quotes or not, as ovs-ofctl takes it. */
const PORT_NAME = /\b(in_port=|output[:=])("?)([A-Za-z0-9_.-]+)\2/g;
const KNOWN_PORTS =
  /^(\d+|0x[0-9a-f]+|in_port|table|normal|flood|all|controller|local|any|none|unset|NXM_\w+|reg\d+)$/i;

/** Those that no switch would take, or that would not do what they say. Changes nothing. */
export async function checkFlows(
  { name, ports, flows = [] }: DesiredBridge,
  call: CallOptions,
): Promise<readonly FlowProblem[]> {
  // The numbers are not known before the ports are there; any will do for the parser.
  const numbers = new Map<string, number | 'LOCAL'>([[name, 'LOCAL']]);
  for (const [index, port] of ports.entries()) numbers.set(port.name, index + 1);
  const told = (flow: DesiredFlow, message: string): FlowProblem => ({ ...flow, bridge: name, message });
  const seen = new Map<string, DesiredFlow>();
  const problems: FlowProblem[] = [];
  const read = await parseAll(flows, numbers, call);
  for (const [index, flow] of flows.entries()) {
    const parsed = read[index];
    if (parsed === undefined || 'message' in parsed) {
      problems.push(told(flow, parsed?.message ?? 'ovs-ofctl reads no flow in it'));
      continue;
    }
    const key = flowKey(parsed);
    const twin = seen.get(key);
    if (twin === undefined) seen.set(key, flow);
    else problems.push(told(flow, `the flow of line ${twin.line} has the same match and priority: only one can be`));
  }
  return problems;
}

/** `FILE:LINE: bridge NAME: FLOW: MESSAGE`, a line for each; `details.flows`. */
export function flowsInvalid(file: string, problems: readonly FlowProblem[]): ArcaError {
  const lines = problems.map(
    ({ line, bridge, text, message }) => `${file}:${line}: bridge ${bridge}: ${text}: ${message}`,
  );
  return new ArcaError('flow-invalid', lines.join('\n'), { details: { flows: problems } });
}

/** As the switch would tell them. Rejects with `flow-invalid` for what `checkFlows` would tell, ports that are not there included. */
export async function parseFlows(
  bridge: string,
  flows: readonly DesiredFlow[],
  numbers: PortNumbers,
  call: CallOptions,
): Promise<readonly Flow[]> {
  const read = await parseAll(flows, numbers, call);
  return flows.map((flow, index) => {
    const parsed = read[index];
    if (parsed !== undefined && 'match' in parsed) return parsed;
    const message = parsed?.message ?? 'ovs-ofctl reads no flow in it';
    throw new ArcaError('flow-invalid', `line ${flow.line}: bridge ${bridge}: ${flow.text}: ${message}`, {
      details: { flows: [{ ...flow, bridge, message }] },
    });
  });
}

/** What two flows of a bridge can't share. */
export function flowKey({ table, match }: Flow): string {
  return `table=${table},${match}`;
}

type Parsed = Flow | { readonly message: string };

async function parseAll(
  flows: readonly DesiredFlow[],
  numbers: PortNumbers,
  call: CallOptions,
): Promise<readonly Parsed[]> {
  const left = deadlineOf(call);
  const texts = flows.map(({ text }) => withNumbers(text, numbers));
  const readable = texts.filter((text) => typeof text === 'string');
  if (readable.length === texts.length && texts.length > 0) {
    const together = await runParser(readable, left());
    if ('flows' in together && together.flows.length === texts.length) return together.flows;
  }
  // The parser stops at the first that it does not take.
  const parsed: Parsed[] = [];
  for (const text of texts) {
    if (typeof text !== 'string') parsed.push(text);
    else {
      const alone = await runParser([text], left());
      const [flow] = 'flows' in alone ? alone.flows : [];
      parsed.push(flow ?? ('message' in alone ? alone : { message: 'ovs-ofctl reads no flow in it' }));
    }
  }
  return parsed;
}

/** The text with numbers for the names of ports, or why no flow of ours can be like that. */
function withNumbers(text: string, numbers: PortNumbers): string | { readonly message: string } {
  const [beforeActions = ''] = text.split(/\bactions?\s*=/);
  const [, word] = NOT_OURS.exec(beforeActions) ?? [];
  if (word !== undefined) return { message: `${word} is not for a flow that stays` };
  const unknown: string[] = [];
  const replaced = text.replace(PORT_NAME, (all, before: string, _quote, name: string) => {
    const number = numbers.get(name);
    if (number !== undefined) return `${before}${number}`;
    if (!KNOWN_PORTS.test(name)) unknown.push(name);
    return all;
  });
  if (unknown.length === 0) return replaced;
  return { message: `the bridge has no port ${unknown.join(', ')}` };
}

async function runParser(
  texts: readonly string[],
  call: CallOptions,
): Promise<{ readonly flows: readonly Flow[] } | { readonly message: string }> {
  const output = await runOfctl(['--no-names', 'parse-flows', '-'], { ...call, input: `${texts.join('\n')}\n` });
  if (output instanceof CommandError) return { message: explain(output.output.stderr, output.message) };
  const lines = output.stdout.split('\n').filter((line) => line.startsWith('OFPT_FLOW_MOD '));
  const flows = lines.map(readParsed);
  const unread = flows.indexOf(undefined);
  if (unread >= 0) return { message: `ovs-ofctl prints what arca does not read: ${lines[unread]}` };
  return { flows: flows.filter((flow) => flow !== undefined) };
}

/**
 * Runs ovs-ofctl; gives the error when it ended with an exit code other than 0, and throws for all other failures:
 * `command-missing`, `ovs-timeout`, `timed-out`.
 */
export async function runOfctl(
  args: readonly string[],
  call: CallOptions & { readonly input?: string },
): Promise<Output | CommandError> {
  // A backstop for the case that nobody is left to end it; ours is the deadline that counts.
  const backstop = `--timeout=${Math.ceil(call.timeoutMs / 1000) + 1}`;
  try {
    return await run('ovs-ofctl', [OPENFLOW, backstop, ...args], call);
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    switch (cause.failure) {
      case 'exit-code':
        return cause;
      case 'not-found':
        throw new ArcaError('command-missing', 'ovs-ofctl is not installed (Debian: openvswitch-common)', { cause });
      case 'timed-out':
        throw new ArcaError('ovs-timeout', `${cause.message}. Is ovs-vswitchd stopped or overloaded?`, { cause });
      case 'aborted':
        throw new ArcaError('timed-out', 'stopped while ovs-ofctl ran', { cause });
      case 'signal':
      case 'output-limit':
        throw new ArcaError('command-failed', cause.message, { cause });
    }
  }
}

/** `OFPT_FLOW_MOD (OF1.4) (xid=0x1): ADD table:1 priority=5,arp actions=drop` */
function readParsed(line: string): Flow | undefined {
  const [, before, actions] = /: ADD (.*?)actions=(.*)$/.exec(line) ?? [];
  if (before === undefined || actions === undefined) return undefined;
  const words = before.trim().split(' ').filter(Boolean);
  const [, table] = /^table:(\d+)$/.exec(words[0] ?? '') ?? [];
  const [match = '', ...more] = table === undefined ? words : words.slice(1);
  return more.length > 0 ? undefined : { table: Number(table ?? 0), match, actions, other: '' };
}

/** `ovs-ofctl: -:1: must specify an action` */
function explain(stderr: string, otherwise: string): string {
  const lines = stderr.split('\n').filter((line) => line.startsWith('ovs-ofctl: '));
  const said = lines.at(-1)?.replace(/^ovs-ofctl: (-:\d+: )?/, '') ?? otherwise;
  if (!/no usable protocol|usable flow formats/.test(said)) return said;
  return 'OpenFlow 1.4 has no such flow; what removes or changes a VLAN wants a match that asks for one';
}
