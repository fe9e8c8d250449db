/** What a check is: the facts that it needs, and a pure judgement of them. A fact that can't be had is never an `ok`. */
import type { Finding, Verdict } from '../finding.js';
import type { FactName, FactSource, Facts } from './facts.js';

/** A finding, less what its check says of itself. */
export type Judgement = Omit<Finding, 'id' | 'title'>;

/** As the findings are told, one group after the other. */
export const GROUPS = ['host', 'daemons', 'bridge', 'ports', 'networks'] as const;
export type Group = (typeof GROUPS)[number];

export interface Check {
  readonly id: string;
  readonly title: string;
  readonly group: Group;
  /** Without each of these it can't judge, and says `unknown`. */
  readonly needs: readonly FactName[];
  /** Never rejects, and ends with the deadline of its facts. */
  run(facts: FactSource): Promise<readonly Finding[]>;
}

interface CheckSpec<Need extends FactName, Want extends FactName> {
  readonly id: string;
  readonly title: string;
  readonly group: Group;
  readonly needs: readonly Need[];
  /** With these it sees more. */
  readonly wants?: readonly Want[];
  /** Pure. At least one. */
  readonly judge: (facts: Pick<Facts, Need> & Partial<Pick<Facts, Want>>) => readonly Judgement[];
}

export function defineCheck<Need extends FactName, Want extends FactName = never>(spec: CheckSpec<Need, Want>): Check {
  const { id, title, group, needs, wants = [], judge } = spec;
  return {
    id,
    title,
    group,
    needs,
    async run(facts) {
      const tell = (judgement: Judgement): Finding => ({ id, title, ...judgement });
      const names = [...needs, ...wants] as readonly FactName[];
      const read = await Promise.all(names.map(async (name) => ({ name, fact: await facts.get(name) })));
      const known: Partial<Record<FactName, unknown>> = {};
      for (const { name, fact } of read) {
        if (fact.known) known[name] = fact.value;
        else if ((needs as readonly FactName[]).includes(name)) {
          return [tell({ verdict: 'unknown', subject: title, evidence: fact.why })];
        }
      }
      return judge(known as Pick<Facts, Need> & Partial<Pick<Facts, Want>>).map(tell);
    },
  };
}

/** What was found, or if that is nothing, that all is well. */
export function foundOr(found: readonly Judgement[], subject: string, evidence: string): readonly Judgement[] {
  return found.length > 0 ? found : [{ verdict: 'ok', subject, evidence }];
}

const RANKS: Readonly<Record<Verdict, number>> = { ok: 0, note: 1, unknown: 2, warning: 3, problem: 4 };

/** The worse, the larger. */
export function rankOf(verdict: Verdict): number {
  return RANKS[verdict];
}

export function worstOf(findings: readonly Finding[]): Verdict {
  return findings.reduce<Verdict>((worst, { verdict }) => (rankOf(verdict) > rankOf(worst) ? verdict : worst), 'ok');
}
