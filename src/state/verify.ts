/** Where this host is not as a state file says. */
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { withOvs } from './apply.js';
import type { Change, FieldChange, FieldValue } from './changes.js';
import { makePlan, type Plan, type StateContext } from './plan.js';

export interface Difference {
  /** `bridge vmbr0, port eth0` */
  readonly path: string;
  readonly what: string;
}

/** None: it is as the file says. Changes nothing. */
export function verifyState(context: StateContext, call: CallOptions): Promise<Difference[]> {
  return withOvs(context, call, async (client, left) => differencesOf(await makePlan(context, client, left())));
}

/** Pure. */
export function differencesOf({ changes, foreign, troubles }: Plan): Difference[] {
  return [
    ...foreign.map(({ path, why }) => ({ path, what: why })),
    ...changes.flatMap(ofChange),
    ...troubles.map(({ path, why }) => ({ path, what: why })),
  ];
}

function ofChange({ kind, path, fields, note }: Change): Difference[] {
  switch (kind) {
    case 'create':
      return [{ path, what: 'is missing' }];
    case 'delete':
      return [{ path, what: 'is not in the file' }];
    case 'update':
      return fields.length === 0 ? [{ path, what: note ?? 'differs' }] : fields.map((field) => ofField(path, field));
  }
}

function ofField(path: string, { name, before, after }: FieldChange): Difference {
  return { path, what: `${name} is ${text(before)}, the file says ${text(after)}` };
}

function text(value: FieldValue | undefined): string {
  if (value === undefined) return 'not set';
  return typeof value === 'object' ? `[${value.join(', ')}]` : String(value);
}
