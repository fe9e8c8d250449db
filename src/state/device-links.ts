/** Addresses and settings of all devices of a state file: planned as changes, remembered in the database, and applied. */
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import type { Change } from './changes.js';
import { type ActualDatabase, STATE_OWNER } from './database.js';
import type { DhcpPlace } from './dhcp.js';
import { type Edit, withExternalId } from './edits.js';
import {
  applyLink,
  decodeRemembered,
  encodeRemembered,
  LINKS_KEY,
  type LinkPlan,
  type LinkStep,
  planLinks,
  type Remembered,
  readLinks,
} from './links.js';
import type { DesiredState } from './model.js';
import type { Done } from './undoing.js';

export interface LinkChanges {
  readonly changes: readonly Change[];
  readonly warnings: readonly string[];
  /** What the database is to remember before anything is set, so that it is known even when we are killed. */
  readonly remember: Remembered;
}

/** What applying would do, once the edits are done. */
export async function planAllLinks(
  state: DesiredState,
  place: DhcpPlace,
  database: ActualDatabase,
  edits: readonly Edit[],
  call: CallOptions,
): Promise<LinkChanges> {
  const before = rememberedIn(database);
  const plan = planLinks(state.links, await readLinks(place, call), before);
  const vanishing = devicesLeaving(edits);
  const steps = plan.steps.filter((step) => !vanishing.has(step.device) && !isImplied(step, plan, state));
  return { changes: steps.map(changeOf), warnings: plan.warnings, remember: withLeaving(plan, before) };
}

/** Steps that are planned, and not yet carried out. */
export interface PreparedLinks {
  readonly steps: readonly LinkStep[];
  /** Devices that are there. */
  readonly there: ReadonlySet<string>;
  /** What the database is to remember before the first step. */
  readonly rememberBefore: Remembered;
  /** What it is to remember when all are done. */
  readonly remember: Remembered;
}

export async function prepareAllLinks(
  state: DesiredState,
  place: DhcpPlace,
  remembered: Remembered,
  call: CallOptions,
): Promise<PreparedLinks> {
  const actual = await readLinks(place, call);
  const plan = planLinks(state.links, actual, remembered);
  const there = new Set(actual.links.keys());
  return { steps: plan.steps, there, rememberBefore: withLeaving(plan, remembered), remember: plan.remember };
}

/** Carries them out. What was done is pushed, also when a later step fails. */
export async function applyAllLinks(
  { steps, there }: PreparedLinks,
  place: DhcpPlace,
  done: Done[],
  call: CallOptions,
): Promise<Change[]> {
  const left = deadlineOf(call);
  const changes: Change[] = [];
  for (const step of steps) {
    const undo = await applyLink(step, place, left());
    const change = changeOf(step);
    // A client whose device is gone comes back when its device does (kept.ts).
    const isOrphan = step.kind === 'stop-dhcp' && !there.has(step.device);
    done.push({ changes: [change], undo: isOrphan ? async () => {} : undo });
    changes.push(change);
  }
  return changes;
}

/** What the rows of bridges of ours, and the Open_vSwitch row for devices of no bridge, say that we set. */
export function rememberedIn({ bridges, rootIds }: ActualDatabase): Remembered {
  const texts = bridges.filter(({ owner }) => owner === STATE_OWNER).map(({ externalIds }) => externalIds[LINKS_KEY]);
  return new Map([rootIds[LINKS_KEY], ...texts].flatMap((text = '') => [...decodeRemembered(text)]));
}

/** The edits, and those that make the database remember. What is of no bridge that stays is remembered by its root. */
export function withRemembered(
  edits: readonly Edit[],
  { bridges, links }: DesiredState,
  database: ActualDatabase,
  remember: Remembered,
): Edit[] {
  const bridgeOf = new Map(links.map(({ device, bridge }) => [device, bridge]));
  const textFor = (bridge: string | undefined): string =>
    encodeRemembered(new Map([...remember].filter(([device]) => bridgeOf.get(device) === bridge)));
  let all = [...edits];
  for (const { name } of bridges) all = withExternalId(all, database, name, LINKS_KEY, textFor(name));
  return withExternalId(all, database, undefined, LINKS_KEY, textFor(undefined));
}

/** With what is to be removed: until it is, it is ours. */
function withLeaving({ steps, remember }: LinkPlan, before: Remembered): Remembered {
  const all = new Map(remember);
  for (const [device, addresses] of before) {
    const leaving = addresses.filter((address) =>
      steps.some((step) => step.kind === 'remove-address' && step.device === device && step.address === address),
    );
    if (leaving.length > 0) all.set(device, [...(all.get(device) ?? []), ...leaving]);
  }
  return all;
}

/** Devices that vswitchd makes, and that go with their ports. */
function devicesLeaving(edits: readonly Edit[]): ReadonlySet<string> {
  const ports = edits.flatMap((edit) => {
    if (edit.kind === 'delete-bridge') return edit.was.ports;
    return edit.kind === 'delete-port' ? [edit.was] : [];
  });
  const interfaces = ports.flatMap((port) => port.interfaces);
  return new Set(interfaces.filter(({ columns }) => columns['type'] === 'internal').map(({ name }) => name));
}

/** A device that is made is set up: nobody needs to be told. */
function isImplied({ kind, device }: LinkStep, { missing }: LinkPlan, { bridges }: DesiredState): boolean {
  const isOfBridge = bridges.some(({ name, ports }) => name === device || ports.some((port) => port.name === device));
  return kind === 'set-up' && missing.includes(device) && isOfBridge;
}

export function changeOf(step: LinkStep): Change {
  const { device } = step;
  const path = `device ${device}`;
  const update = (name: string, before: string | number | undefined, after: string | number): Change => ({
    ...{ kind: 'update', object: 'link', path, fields: [{ name, before, after }] },
  });
  const whole = (kind: 'create' | 'delete', what: string): Change => ({
    ...{ kind, object: 'link', path: `${path}, ${what}`, fields: [] },
  });
  switch (step.kind) {
    case 'add-address':
      return whole('create', `address ${step.address}`);
    case 'remove-address':
      return whole('delete', `address ${step.address}`);
    case 'start-dhcp':
      return whole('create', 'DHCP client');
    case 'stop-dhcp':
      return whole('delete', 'DHCP client');
    case 'set-mtu':
      return update('mtu', step.from, step.to);
    case 'set-up':
      return update('state', 'down', 'up');
    case 'set-down':
      return update('state', 'up', 'down');
  }
}
