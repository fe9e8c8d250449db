/**
 * What `arca doctor --fix` does: removes what relays that are gone have left, and nothing else. Each step is guarded by
 * whoever holds the thing, not by what was read before: a relay that starts meanwhile loses nothing.
 */
import { toArcaError } from '../errors.js';
import { CommandError, run } from '../exec.js';
import { ovsPlaces } from '../ovs/places.js';
import { removeOwnedPort } from '../ovs/ports.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { removeDeadSocket } from '../unix-socket.js';
import type { Check } from './check.js';
import type { FactName, FactSource, Facts } from './facts.js';
import type { DoctorPlaces } from './places.js';
import { orphanedPorts, orphanedTaps, ourTapNames } from './ports.js';

export type Fix =
  | { readonly kind: 'remove-port'; readonly port: string; readonly uuid: string }
  | { readonly kind: 'remove-tap'; readonly device: string }
  | { readonly kind: 'remove-socket'; readonly path: string };

export interface FixResult {
  readonly fix: Fix;
  /** `left-alone`: it was not as it had been any more. */
  readonly outcome: 'done' | 'left-alone' | 'failed';
  readonly detail: string;
}

/** The check that tells what it mends. */
const CHECK_OF: Readonly<Record<Fix['kind'], string>> = {
  'remove-port': 'orphaned-ports',
  'remove-tap': 'orphaned-taps',
  'remove-socket': 'stale-sockets',
};

/** Those of the checks that were chosen. */
export async function planFixes(facts: FactSource, checks: readonly Check[]): Promise<readonly Fix[]> {
  const all = await planAll(facts);
  return all.filter(({ kind }) => checks.some(({ id }) => id === CHECK_OF[kind]));
}

/** Only what is known for sure: a fact that can't be had lets nothing be removed. */
async function planAll(facts: FactSource): Promise<readonly Fix[]> {
  const read = async <Name extends FactName>(name: Name): Promise<Facts[Name] | undefined> => {
    const fact = await facts.get(name);
    return fact.known ? fact.value : undefined;
  };
  const [ovs, links, holders, northbound, sockets] = await Promise.all([
    read('ovs'),
    read('links'),
    read('tapHolders'),
    read('northbound'),
    read('deadSockets'),
  ]);
  const fixes: Fix[] = (sockets ?? []).map((path) => ({ kind: 'remove-socket', path }));
  if (ovs === undefined || links === undefined) return fixes;
  for (const { isOurs, name, uuid } of orphanedPorts(ovs, links)) {
    if (isOurs) fixes.push({ kind: 'remove-port', port: name, uuid });
  }
  if (holders === undefined) return fixes;
  for (const { name } of orphanedTaps(ourTapNames(ovs, northbound), links, holders)) {
    fixes.push({ kind: 'remove-tap', device: name });
  }
  return fixes;
}

/** One after the other; never rejects. */
export async function applyFixes(
  fixes: readonly Fix[],
  places: DoctorPlaces,
  call: () => CallOptions,
): Promise<readonly FixResult[]> {
  const results: FixResult[] = [];
  for (const fix of fixes) {
    try {
      const left = await applyOne(fix, places, call());
      results.push({ fix, outcome: left === undefined ? 'done' : 'left-alone', detail: left ?? '' });
    } catch (error) {
      results.push({ fix, outcome: 'failed', detail: toArcaError(error).message });
    }
  }
  return results;
}

/** Why it was left alone, or nothing. */
async function applyOne(
  fix: Fix,
  { ovsSocketPath, env }: DoctorPlaces,
  call: CallOptions,
): Promise<string | undefined> {
  switch (fix.kind) {
    case 'remove-port': {
      const { socketPath } = ovsPlaces(ovsSocketPath, env);
      // The row's UUID and our mark are guarded in the transaction.
      const removed = await removeOwnedPort(socketPath, { uuid: fix.uuid, name: fix.port }, call);
      return removed ? undefined : 'somebody else removed it, or it has lost our mark';
    }
    case 'remove-tap':
      try {
        // Attaches to the device first, which the kernel refuses (EBUSY) while somebody holds it.
        await run('ip', ['tuntap', 'del', 'dev', fix.device, 'mode', 'tap'], call);
        return undefined;
      } catch (error) {
        if (error instanceof CommandError && /busy/i.test(error.output.stderr)) return 'a process holds it now';
        throw error;
      }
    case 'remove-socket':
      switch (await removeDeadSocket(fix.path)) {
        case 'removed':
          return undefined;
        case 'absent':
          return 'it is gone';
        case 'alive':
          return 'somebody listens on it now';
      }
  }
}
