/** The checks of `arca persistence check`, as one: whether what OVS holds survives a reboot. */
import type { Finding } from '../finding.js';
import { type Check, GROUPS } from './check.js';
import type { FactSource } from './facts.js';

const ID = 'persistence';
const TITLE = 'What OVS holds survives a reboot';

export const PERSISTENCE_CHECK: Check = {
  id: ID,
  title: TITLE,
  group: GROUPS[1],
  needs: ['persistence'],
  async run(facts: FactSource): Promise<readonly Finding[]> {
    const fact = await facts.get('persistence');
    if (fact.known) return fact.value;
    return [{ id: ID, title: TITLE, verdict: 'unknown', subject: 'OVS database', evidence: fact.why }];
  },
};
