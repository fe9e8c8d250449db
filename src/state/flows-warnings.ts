/**
 * Flows that take away what every host needs: ARP, DHCP and the neighbours of IPv6. The example of the origin document has
 * one (docs/state-file.md). Looks at the texts, as far as they can be judged without a switch. Pure.
 */
import type { DesiredFlow } from './model.js';

export interface FlowWarning {
  /** In the state file, from 1. */
  readonly line: number;
  readonly text: string;
  /** What would stop working, and what mends it. */
  readonly message: string;
}

/** A frame that has to get through, by the fields of ovs-fields(7) that are known of it. */
interface Witness {
  readonly name: string;
  readonly consequence: string;
  readonly rule: string;
  readonly fields: Readonly<Record<string, string>>;
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const [ARP, IPV4, IPV6] = ['2054', '2048', '34525'];
const [UDP, ICMP6] = ['17', '58'];
const FIND_NOBODY = 'hosts do not find each other by IPv4 address';
const NO_LEASE = 'DHCP clients get no lease';

const WITNESSES: readonly Witness[] = [
  {
    ...{ name: 'ARP requests', consequence: FIND_NOBODY, rule: 'arp,actions=normal' },
    fields: { dl_dst: BROADCAST, dl_type: ARP, nw_proto: '1' },
  },
  {
    ...{ name: 'ARP answers', consequence: FIND_NOBODY, rule: 'arp,actions=normal' },
    fields: { dl_dst: 'unicast', dl_type: ARP, nw_proto: '2' },
  },
  {
    ...{ name: 'DHCP requests', consequence: NO_LEASE, rule: 'udp,tp_src=68,tp_dst=67,actions=normal' },
    fields: {
      ...{ dl_dst: BROADCAST, dl_type: IPV4, nw_proto: UDP, tp_src: '68', tp_dst: '67' },
      ...{ nw_src: '0.0.0.0', nw_dst: '255.255.255.255' },
    },
  },
  {
    ...{ name: 'DHCP answers', consequence: NO_LEASE, rule: 'udp,tp_src=67,tp_dst=68,actions=normal' },
    fields: { dl_dst: 'unicast', dl_type: IPV4, nw_proto: UDP, tp_src: '67', tp_dst: '68' },
  },
  {
    name: 'IPv6 neighbour solicitations',
    consequence: 'hosts do not find each other by IPv6 address',
    rule: 'icmp6,icmp_type=135,actions=normal',
    fields: { dl_dst: '33:33:ff:00:00:01', dl_type: IPV6, nw_proto: ICMP6, icmp_type: '135' },
  },
];

/** Pure; those of table 0 that drop such a frame before a rule of higher priority lets it through. */
export function warnOfFlows(flows: readonly DesiredFlow[]): readonly FlowWarning[] {
  const rules = flows.map(readRule).filter((rule) => rule.table === 0);
  const killed = new Map<Rule, Witness[]>();
  for (const witness of WITNESSES) {
    const killer = killerOf(witness, rules);
    if (killer !== undefined) killed.set(killer, [...(killed.get(killer) ?? []), witness]);
  }
  return [...killed].map(([{ flow, priority }, witnesses]) => ({ ...flow, message: warning(priority, witnesses) }));
}

function warning(priority: number, witnesses: readonly Witness[]): string {
  const frames = [...new Set(witnesses.map(({ name }) => name))].join(', ');
  const consequences = [...new Set(witnesses.map(({ consequence }) => consequence))].join('; ');
  const higher = Math.min(priority + 100, 65535);
  const rules = [...new Set(witnesses.map(({ rule }) => `"priority=${higher},${rule}"`))].join(', ');
  return `drops ${frames}: ${consequences}. Leave it out, or let them through before it: ${rules}`;
}

interface Rule {
  readonly flow: DesiredFlow;
  readonly table: number;
  readonly priority: number;
  readonly isDrop: boolean;
  readonly fields: ReadonlyMap<string, string>;
}

/** The first of the rules, by priority, that drops the frame. */
function killerOf({ fields }: Witness, rules: readonly Rule[]): Rule | undefined {
  const ordered = [...rules].sort((one, other) => other.priority - one.priority);
  for (const rule of ordered) {
    const verdict = judge(rule, fields);
    if (verdict === 'no') continue;
    if (rule.isDrop) return rule;
    // One that takes only some of them (by port, by address) leaves the others to the rules below.
    if (verdict === 'all') return undefined;
  }
  return undefined;
}

/** Whether the rule takes such frames: all of them, none, or those of which it knows more than we do. */
function judge(rule: Rule, frame: Readonly<Record<string, string>>): 'all' | 'some' | 'no' {
  let verdict: 'all' | 'some' = 'all';
  for (const [field, value] of rule.fields) {
    const known = frame[field];
    const fits = known === undefined ? 'some' : fieldFits(field, value, known);
    if (fits === 'no') return 'no';
    if (fits === 'some') verdict = 'some';
  }
  return verdict;
}

function fieldFits(field: string, value: string, known: string): 'all' | 'some' | 'no' {
  const [wanted = '', mask] = value.split('/');
  if (field === 'dl_dst') return macFits(wanted, mask, known);
  if (mask !== undefined) return 'some';
  return wanted === known ? 'all' : 'no';
}

/** `unicast` stands for the MAC of some host. */
function macFits(wanted: string, mask: string | undefined, known: string): 'all' | 'some' | 'no' {
  const [bits, kept] = [macBits(wanted), mask === undefined ? (1n << 48n) - 1n : macBits(mask)];
  if (known !== 'unicast') return ((macBits(known) ^ bits) & kept) === 0n ? 'all' : 'no';
  const group = 1n << 40n;
  if ((kept & group) === 0n) return kept === 0n ? 'all' : 'some';
  if ((bits & group) !== 0n) return 'no';
  return kept === group ? 'all' : 'some';
}

function macBits(text: string): bigint {
  return /^([0-9a-f]{1,2}:){5}[0-9a-f]{1,2}$/i.test(text)
    ? text.split(':').reduce((bits, byte) => bits * 256n + BigInt(Number.parseInt(byte, 16)), 0n)
    : 0n;
}

/** Names of ovs-fields(7) that mean the same. */
const SYNONYMS: Readonly<Record<string, string>> = {
  ...{
    eth_dst: 'dl_dst',
    eth_type: 'dl_type',
    ip_proto: 'nw_proto',
    arp_op: 'nw_proto',
    ip_src: 'nw_src',
    ip_dst: 'nw_dst',
  },
  ...{ udp_src: 'tp_src', udp_dst: 'tp_dst', tcp_src: 'tp_src', tcp_dst: 'tp_dst', icmpv6_type: 'icmp_type' },
};
const KEYWORDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  ...{ arp: { dl_type: ARP }, ip: { dl_type: IPV4 }, ipv6: { dl_type: IPV6 }, rarp: { dl_type: '32821' } },
  ...{ udp: { dl_type: IPV4, nw_proto: UDP }, udp6: { dl_type: IPV6, nw_proto: UDP } },
  ...{ tcp: { dl_type: IPV4, nw_proto: '6' }, tcp6: { dl_type: IPV6, nw_proto: '6' } },
  ...{ sctp: { dl_type: IPV4, nw_proto: '132' }, sctp6: { dl_type: IPV6, nw_proto: '132' } },
  ...{ icmp: { dl_type: IPV4, nw_proto: '1' }, icmp6: { dl_type: IPV6, nw_proto: ICMP6 } },
};
const DEFAULT_PRIORITY = 32768;

function readRule(flow: DesiredFlow): Rule {
  const [match = '', actions = ''] = flow.text.replace(/#.*/, '').split(/\bactions?\s*=\s*/);
  const fields = new Map<string, string>();
  let [table, priority] = [0, DEFAULT_PRIORITY];
  for (const word of match.split(/[\s,]+/).filter(Boolean)) {
    const [key = '', value] = word.split('=');
    if (key === 'table') table = Number(value);
    else if (key === 'priority') priority = Number(value);
    else if (value === undefined) {
      for (const [field, meaning] of Object.entries(KEYWORDS[key] ?? { [key]: '' })) fields.set(field, meaning);
    } else fields.set(SYNONYMS[key] ?? key, plain(value));
  }
  return { flow, table, priority, isDrop: /^(drop)?\s*$/.test(actions), fields };
}

/** Numbers as decimals; all else as it is. */
function plain(value: string): string {
  return /^(0x[0-9a-f]+|\d+)$/i.test(value) ? String(Number(value)) : value;
}
