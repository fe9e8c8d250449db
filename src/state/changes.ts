/** What a plan says to people and scripts: one entry for each thing that comes, changes or goes. */

export type ChangeKind = 'create' | 'update' | 'delete';

export interface FieldChange {
  readonly name: string;
  /** Nothing: it has none. */
  readonly before: FieldValue | undefined;
  readonly after: FieldValue | undefined;
}

export type FieldValue = string | number | readonly number[];

export interface Change {
  readonly kind: ChangeKind;
  /** `bridge`, `port`, `flow`, `link`: what it is. */
  readonly object: 'bridge' | 'port' | 'flow' | 'link';
  /** For people, as `bridge vmbr0, port eth0`; no two changes of a plan have the same but for the kind. */
  readonly path: string;
  readonly fields: readonly FieldChange[];
  /** What else it does, or why. */
  readonly note?: string;
}

export function changeText({ kind, path }: Change): string {
  return `${kind} ${path}`;
}

export interface Summary {
  readonly create: number;
  readonly update: number;
  readonly delete: number;
}

export function summaryOf(changes: readonly Change[]): Summary {
  const count = (kind: ChangeKind): number => changes.filter((change) => change.kind === kind).length;
  return { create: count('create'), update: count('update'), delete: count('delete') };
}

export function summaryText({ create, update, delete: gone }: Summary): string {
  return `${create} to add, ${update} to change, ${gone} to remove`;
}

export function doneText({ create, update, delete: gone }: Summary): string {
  return `${create} added, ${update} changed, ${gone} removed`;
}

export function bridgePath(bridge: string): string {
  return `bridge ${bridge}`;
}

export function portPath(bridge: string, port: string): string {
  return `${bridgePath(bridge)}, port ${port}`;
}
