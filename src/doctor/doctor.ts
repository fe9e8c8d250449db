/** All checks, and an examination of this host by some of them. */
import { usage } from '../arguments.js';
import type { Finding, Verdict } from '../finding.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { bridgeChecks } from './bridge.js';
import { type Check, GROUPS, worstOf } from './check.js';
import { DAEMON_CHECKS } from './daemons.js';
import { EXPOSURE_CHECKS } from './exposure.js';
import { createFacts } from './facts.js';
import { applyFixes, type FixResult, planFixes } from './fix.js';
import { HOST_CHECKS } from './host.js';
import { MTU_CHECKS } from './mtu.js';
import { networkChecks } from './networks.js';
import { PERSISTENCE_CHECK } from './persistence.js';
import type { DoctorPlaces } from './places.js';
import { PORT_CHECKS } from './ports.js';
import { createReaders } from './readers.js';

export interface Examination {
  readonly worst: Verdict;
  /** In the order of the groups. */
  readonly findings: readonly Finding[];
  /** What `fix` did; the findings are of after that. */
  readonly fixes: readonly FixResult[];
}

/** In the order in which they are told: what others rest on first. */
export function checksOf({ bridge, runDir }: Pick<DoctorPlaces, 'bridge' | 'runDir'>): readonly Check[] {
  const all = [
    ...HOST_CHECKS,
    ...DAEMON_CHECKS,
    PERSISTENCE_CHECK,
    ...bridgeChecks(bridge),
    ...PORT_CHECKS,
    ...EXPOSURE_CHECKS,
    ...networkChecks(runDir),
    ...MTU_CHECKS,
  ];
  return GROUPS.flatMap((group) => all.filter((check) => check.group === group));
}

/** Those that were named, or all. Throws an ArcaError (`usage`). */
export function chooseChecks(all: readonly Check[], names: readonly string[]): readonly Check[] {
  const unknown = names.find((name) => !all.some(({ id }) => id === name));
  if (unknown !== undefined) throw usage(`there is no check '${unknown}'; arca doctor --list names them`);
  return names.length === 0 ? all : all.filter(({ id }) => names.includes(id));
}

/** Never takes longer than `call` says, and rejects for nothing that is wrong with the host. */
export async function examine(
  places: DoctorPlaces,
  checks: readonly Check[],
  { fix }: { readonly fix: boolean },
  call: CallOptions,
): Promise<Examination> {
  const left = deadlineOf(call);
  const fixes = fix ? await repair(places, checks, left) : [];
  const facts = createFacts(createReaders(places), left());
  const found = await Promise.all(checks.map((check) => check.run(facts)));
  const findings = found.flat();
  return { worst: worstOf(findings), findings, fixes };
}

/** The look for what there is to mend has half of the time: the rest is for mending, and for looking again. */
async function repair(
  places: DoctorPlaces,
  checks: readonly Check[],
  left: () => CallOptions,
): Promise<readonly FixResult[]> {
  const whole = left();
  const facts = createFacts(createReaders(places), { ...whole, timeoutMs: whole.timeoutMs / 2 });
  const fixes = await planFixes(facts, checks);
  // Each of them takes milliseconds; one that hangs leaves time to say so.
  return applyFixes(fixes, places, () => ({ ...left(), timeoutMs: Math.min(MOST_FIX_MS, left().timeoutMs / 2) }));
}

const MOST_FIX_MS = 2_000;
