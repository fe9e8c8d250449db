/**
 * What has to change in OVS's database, so that it holds the bridges and ports of a state file. Pure. What does not
 * carry our mark is changed only when it is adopted, and never removed; the integration bridge and the ports of relays
 * are not touched, whatever the file says.
 */
import { OWNER_KEY } from '../ovs/port-commands.js';
import { map, set, type Value } from '../ovsdb/values.js';
import { bridgePath, type Change, type FieldChange, portPath } from './changes.js';
import { type ActualBridge, type ActualDatabase, type ActualPort, STATE_OWNER } from './database.js';
import {
  type BridgeRef,
  bridgeRef,
  type ColumnEdit,
  type Edit,
  type NewBridge,
  type NewPort,
  newBridgeLike,
  newPortLike,
} from './edits.js';
import type { DesiredBridge, DesiredPort } from './model.js';

/** Something of the file that belongs to somebody else. */
export interface Foreign {
  readonly path: string;
  readonly why: string;
  /** With `--adopt` it would be ours. */
  readonly isAdoptable: boolean;
}

export interface DatabasePlan {
  /** Nothing may be done while this is not empty. */
  readonly foreign: readonly Foreign[];
  readonly changes: readonly Change[];
  readonly edits: readonly Edit[];
}

export interface DatabasePlanOptions {
  readonly adopt: boolean;
}

/** Keys of `external_ids` that a state file set on a port, so that they go when it does not name them any more. */
export const IDS_KEY = 'arca-state-ids';
/** The bridge of the relays; `external_ids:ovn-bridge` of the Open_vSwitch row may name another one. */
export const INTEGRATION_BRIDGE = 'br-int';

const ABSENT: Value = set([]);

interface Draft {
  /** Every bridge as it was read, by UUID. */
  readonly refs: ReadonlyMap<string, BridgeRef>;
  readonly foreign: Foreign[];
  readonly changes: Change[];
  readonly edits: Edit[];
}

export function planDatabase(
  desired: readonly DesiredBridge[],
  actual: ActualDatabase,
  { adopt }: DatabasePlanOptions,
): DatabasePlan {
  const refs = new Map(actual.bridges.map((bridge) => [bridge.uuid, bridgeRef(bridge)]));
  const draft: Draft = { refs, foreign: [], changes: [], edits: [] };
  const wanted = new Map(desired.map((bridge) => [bridge.name, bridge]));
  const isOurBusiness = (bridge: ActualBridge): boolean => !isIntegrationBridge(bridge.name, actual);
  // First what goes: its names may be wanted elsewhere.
  for (const bridge of actual.bridges.filter(isOurBusiness)) {
    planRemovals(draft, bridge, wanted.get(bridge.name));
  }
  const kept = { ...actual, bridges: withoutDeleted(actual.bridges, draft.edits) };
  for (const bridge of desired) {
    if (isIntegrationBridge(bridge.name, actual)) {
      const why = 'it is the integration bridge of relays or OVN, which a state file never touches';
      draft.foreign.push({ path: bridgePath(bridge.name), why, isAdoptable: false });
      continue;
    }
    const there = kept.bridges.find(({ name }) => name === bridge.name);
    if (there === undefined) planNewBridge(draft, bridge, kept);
    else planExistingBridge(draft, bridge, there, kept, adopt);
  }
  const { foreign, changes, edits } = draft;
  return { foreign, changes, edits };
}

export function isIntegrationBridge(name: string, { rootIds }: ActualDatabase): boolean {
  return name === INTEGRATION_BRIDGE || name === rootIds['ovn-bridge'];
}

function isOurs({ owner }: { readonly owner: string }): boolean {
  return owner === STATE_OWNER;
}

function planRemovals(draft: Draft, bridge: ActualBridge, desired: DesiredBridge | undefined): void {
  const others = bridge.ports.filter((port) => port.name !== bridge.name && !isOurs(port));
  if (desired === undefined && isOurs(bridge) && others.length === 0) {
    draft.edits.push({ kind: 'delete-bridge', bridge: bridgeRef(bridge), was: newBridgeLike(bridge) });
    for (const port of bridge.ports.filter(({ name }) => name !== bridge.name)) {
      draft.changes.push({ kind: 'delete', object: 'port', path: portPath(bridge.name, port.name), fields: [] });
    }
    draft.changes.push({ kind: 'delete', object: 'bridge', path: bridgePath(bridge.name), fields: [] });
    return;
  }
  const names = new Set(desired?.ports.map(({ name }) => name));
  for (const port of bridge.ports) {
    if (port.name === bridge.name || !isOurs(port) || (names.has(port.name) && !isBond(port))) continue;
    draft.edits.push({ kind: 'delete-port', bridge: bridgeRef(bridge), uuid: port.uuid, was: newPortLike(port) });
    draft.changes.push({ kind: 'delete', object: 'port', path: portPath(bridge.name, port.name), fields: [] });
  }
  if (desired === undefined && isOurs(bridge)) release(draft, bridge, others);
}

/** A bridge that is not wanted any more, and holds ports of others: it is theirs from now on. */
function release(draft: Draft, bridge: ActualBridge, others: readonly ActualPort[]): void {
  const columns = Object.entries(bridge.externalIds)
    .filter(([key]) => key.startsWith('arca-'))
    .map(([key, before]) => ({ column: 'external_ids', key, before, after: undefined }));
  draft.edits.push({ kind: 'update', table: 'Bridge', uuid: bridge.uuid, name: bridge.name, columns });
  draft.changes.push({
    kind: 'update',
    object: 'bridge',
    path: bridgePath(bridge.name),
    fields: [{ name: 'owner', before: STATE_OWNER, after: undefined }],
    note: `the bridge stays: it has ports that are not ours (${others.map(({ name }) => name).join(', ')})`,
  });
}

/** A port of several interfaces, or of one with another name: none that a state file makes. */
function isBond({ name, interfaces }: ActualPort): boolean {
  return interfaces.length !== 1 || interfaces[0]?.name !== name;
}

function withoutDeleted(bridges: readonly ActualBridge[], edits: readonly Edit[]): ActualBridge[] {
  const gone = new Set<string>();
  for (const edit of edits) {
    if (edit.kind === 'delete-bridge') gone.add(edit.bridge.uuid);
    if (edit.kind === 'delete-port') gone.add(edit.uuid);
  }
  return bridges
    .filter(({ uuid }) => !gone.has(uuid))
    .map((bridge) => ({ ...bridge, ports: bridge.ports.filter(({ uuid }) => !gone.has(uuid)) }));
}

function planNewBridge(draft: Draft, desired: DesiredBridge, actual: ActualDatabase): void {
  const { name, datapathType, tag } = desired;
  const holder = holderOf(name, actual);
  if (holder) draft.foreign.push({ path: bridgePath(name), why: holder.why, isAdoptable: false });
  const ports = desired.ports.filter((port) => isFree(draft, name, port, actual));
  draft.changes.push({
    kind: 'create',
    object: 'bridge',
    path: bridgePath(name),
    fields: present([
      { name: 'datapath_type', before: undefined, after: datapathType },
      { name: 'tag', before: undefined, after: tag },
    ]),
  });
  for (const port of ports) draft.changes.push(creationOf(name, port));
  draft.edits.push({ kind: 'create-bridge', bridge: newBridge(desired, ports) });
}

function newBridge({ name, datapathType, tag }: DesiredBridge, ports: readonly DesiredPort[]): NewBridge {
  const own = { name, type: 'internal', options: {}, tag, trunks: [], externalIds: {} };
  return {
    name,
    columns: { name, datapath_type: datapathType, external_ids: map({ [OWNER_KEY]: STATE_OWNER }) },
    ports: [own, ...ports].map(newPort),
  };
}

function newPort({ name, type, options, tag, trunks, externalIds }: DesiredPort): NewPort {
  const keys = Object.keys(externalIds);
  const ids = { ...externalIds, [OWNER_KEY]: STATE_OWNER, ...(keys.length > 0 && { [IDS_KEY]: idsText(keys) }) };
  return {
    name,
    columns: { name, external_ids: map(ids), tag: optional(tag), trunks: set(trunks) },
    interfaces: [{ name, columns: { name, type, options: map(options) } }],
  };
}

function planExistingBridge(
  draft: Draft,
  desired: DesiredBridge,
  there: ActualBridge,
  actual: ActualDatabase,
  adopt: boolean,
): void {
  const path = bridgePath(desired.name);
  if (!isOurs(there) && !mayAdopt(draft, path, there, adopt)) return;
  const columns: ColumnEdit[] = [];
  const fields: FieldChange[] = [];
  if (!isOurs(there)) takeOver(columns, fields, there.owner);
  if (there.datapathType !== desired.datapathType) {
    const [before, after] = [there.datapathType, desired.datapathType];
    columns.push({ column: 'datapath_type', before: there.config['datapath_type'] ?? '', after });
    fields.push({ name: 'datapath_type', before, after });
  }
  pushUpdate(draft, 'Bridge', there, columns);
  const own = there.ports.find(({ name }) => name === there.name);
  if (own && own.tag !== desired.tag) {
    const edit = { column: 'tag', before: optional(own.tag), after: optional(desired.tag) };
    pushUpdate(draft, 'Port', own, [edit]);
    fields.push({ name: 'tag', before: own.tag, after: desired.tag });
  }
  if (fields.length > 0) {
    const note =
      there.datapathType === desired.datapathType
        ? undefined
        : 'vswitchd makes the bridge anew: its internal devices are other ones then, and its traffic stops for a moment';
    draft.changes.push({ kind: 'update', object: 'bridge', path, fields, ...(note && { note }) });
  }
  const ref = draft.refs.get(there.uuid);
  for (const port of desired.ports) {
    const row = there.ports.find(({ name }) => name === port.name);
    if (row) planExistingPort(draft, there, port, row, adopt);
    else if (ref && isFree(draft, there.name, port, actual)) {
      draft.changes.push(creationOf(there.name, port));
      draft.edits.push({ kind: 'create-port', bridge: ref, port: newPort(port) });
    }
  }
}

/** Whether a row that is not ours may become ours; says why not. */
function mayAdopt(draft: Draft, path: string, { owner }: { readonly owner: string }, adopt: boolean): boolean {
  if (owner !== '') {
    const why = `it belongs to ${owner} (external_ids:${OWNER_KEY})`;
    draft.foreign.push({ path, why, isAdoptable: false });
    return false;
  }
  if (!adopt) draft.foreign.push({ path, why: 'it is there already and somebody else made it', isAdoptable: true });
  return adopt;
}

function takeOver(columns: ColumnEdit[], fields: FieldChange[], owner: string): void {
  columns.push({ column: 'external_ids', key: OWNER_KEY, before: owner || undefined, after: STATE_OWNER });
  fields.push({ name: 'owner', before: owner || undefined, after: STATE_OWNER });
}

function planExistingPort(
  draft: Draft,
  bridge: ActualBridge,
  desired: DesiredPort,
  there: ActualPort,
  adopt: boolean,
): void {
  const path = portPath(bridge.name, desired.name);
  const [iface] = there.interfaces;
  if (iface === undefined || isBond(there)) {
    draft.foreign.push({ path, why: 'it is a bond that somebody else made', isAdoptable: false });
    return;
  }
  if (!isOurs(there) && !mayAdopt(draft, path, there, adopt)) return;
  const columns: ColumnEdit[] = [];
  const fields: FieldChange[] = [];
  if (!isOurs(there)) takeOver(columns, fields, there.owner);
  planVlans(columns, fields, desired, there);
  planIds(columns, fields, desired, there);
  pushUpdate(draft, 'Port', there, columns);

  const interfaceColumns: ColumnEdit[] = [];
  if (iface.type !== desired.type) {
    interfaceColumns.push({ column: 'type', before: iface.config['type'] ?? '', after: desired.type });
    fields.push({ name: 'type', before: iface.type || 'system', after: desired.type || 'system' });
  }
  planKeys(interfaceColumns, fields, 'options', iface.options, desired.options, Object.keys(iface.options));
  pushUpdate(draft, 'Interface', iface, interfaceColumns);
  if (fields.length > 0) draft.changes.push({ kind: 'update', object: 'port', path, fields });
}

function planVlans(columns: ColumnEdit[], fields: FieldChange[], desired: DesiredPort, there: ActualPort): void {
  if (there.tag !== desired.tag) {
    columns.push({ column: 'tag', before: optional(there.tag), after: optional(desired.tag) });
    fields.push({ name: 'tag', before: there.tag, after: desired.tag });
  }
  if (there.trunks.join() !== desired.trunks.join()) {
    columns.push({ column: 'trunks', before: set(there.trunks), after: set(desired.trunks) });
    fields.push({ name: 'trunks', before: there.trunks, after: desired.trunks });
  }
  // The mode follows from tag and trunks; another one was set by somebody else.
  if (there.vlanMode !== '') {
    columns.push({ column: 'vlan_mode', before: there.vlanMode, after: ABSENT });
    fields.push({ name: 'vlan_mode', before: there.vlanMode, after: undefined });
  }
}

/** Keys that a state file set earlier go; those of others stay. */
function planIds(columns: ColumnEdit[], fields: FieldChange[], desired: DesiredPort, there: ActualPort): void {
  const known = there.externalIds[IDS_KEY];
  const keys = Object.keys(desired.externalIds);
  planKeys(columns, fields, 'external_ids', there.externalIds, desired.externalIds, readIds(known));
  const after = keys.length > 0 ? idsText(keys) : undefined;
  if (known !== after) columns.push({ column: 'external_ids', key: IDS_KEY, before: known, after });
}

/** `ours`: keys that go when they are not wanted. */
function planKeys(
  columns: ColumnEdit[],
  fields: FieldChange[],
  column: string,
  there: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
  ours: readonly string[],
): void {
  for (const key of new Set([...Object.keys(wanted), ...ours])) {
    const [before, after] = [there[key], wanted[key]];
    if (before === after) continue;
    columns.push({ column, key, before, after });
    fields.push({ name: `${column}:${key}`, before, after });
  }
}

function pushUpdate(
  draft: Draft,
  table: 'Bridge' | 'Port' | 'Interface',
  { uuid, name }: { readonly uuid: string; readonly name: string },
  columns: readonly ColumnEdit[],
): void {
  if (columns.length > 0) draft.edits.push({ kind: 'update', table, uuid, name, columns });
}

/** Whether nobody has the name of a port that is to be made; says who has it. */
function isFree(draft: Draft, bridge: string, { name }: DesiredPort, actual: ActualDatabase): boolean {
  const holder = holderOf(name, actual);
  if (holder) draft.foreign.push({ path: portPath(bridge, name), why: holder.why, isAdoptable: false });
  return holder === undefined;
}

/** Ports and interfaces have one name in all of OVS. */
function holderOf(name: string, { bridges }: ActualDatabase): { readonly why: string } | undefined {
  for (const bridge of bridges) {
    for (const port of bridge.ports) {
      if (port.name === name) return { why: `a port of that name is on bridge ${bridge.name}` };
      if (port.interfaces.some((iface) => iface.name === name)) {
        return { why: `an interface of that name is in the bond ${port.name} of bridge ${bridge.name}` };
      }
    }
  }
  return undefined;
}

function creationOf(bridge: string, { name, type, options, tag, trunks, externalIds }: DesiredPort): Change {
  const keys = (column: string, entries: Readonly<Record<string, string>>): FieldChange[] =>
    Object.entries(entries).map(([key, after]) => ({ name: `${column}:${key}`, before: undefined, after }));
  return {
    kind: 'create',
    object: 'port',
    path: portPath(bridge, name),
    fields: present([
      { name: 'type', before: undefined, after: type || undefined },
      ...keys('options', options),
      { name: 'tag', before: undefined, after: tag },
      { name: 'trunks', before: undefined, after: trunks.length > 0 ? trunks : undefined },
      ...keys('external_ids', externalIds),
    ]),
  };
}

function present(fields: readonly FieldChange[]): FieldChange[] {
  return fields.filter(({ after }) => after !== undefined);
}

function optional(tag: number | undefined): Value {
  return tag === undefined ? ABSENT : tag;
}

function idsText(keys: readonly string[]): string {
  return JSON.stringify([...keys].sort());
}

/** What somebody else wrote there counts as nothing. */
export function readIds(text: string | undefined): string[] {
  try {
    const keys: unknown = JSON.parse(text ?? '[]');
    if (Array.isArray(keys)) return keys.filter((key) => typeof key === 'string' && !key.startsWith('arca-'));
  } catch {
    // Not ours, then.
  }
  return [];
}
