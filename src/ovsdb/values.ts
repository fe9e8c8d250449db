/**
 * OVSDB's values as they really arrive (RFC 7047, section 5.1): a set of one element comes bare, an empty optional
 * column as `["set", []]`, a map as `["map", [[key, value], ...]]`. Readers take `unknown` and give what is there, or
 * the column's default: the updates of ovsdb-server leave out columns that have it.
 */

export type Uuid = readonly ['uuid', string];
export type Atom = string | number | boolean | Uuid | readonly ['named-uuid', string];
export type Value = Atom | readonly ['set', readonly Atom[]] | readonly ['map', readonly (readonly [Atom, Atom])[]];

/** Column name to value. */
export type Row = Readonly<Record<string, unknown>>;

export function uuid(id: string): Uuid {
  return ['uuid', id];
}

export function map(entries: Readonly<Record<string, string>>): Value {
  return ['map', Object.entries(entries)];
}

export function set(atoms: readonly Atom[]): Value {
  return ['set', atoms];
}

/** The elements of a set, however many there are. */
export function elements(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value[0] === 'set' && Array.isArray(value[1])) return value[1];
  return [value];
}

export function text(value: unknown): string {
  const [first] = elements(value);
  return typeof first === 'string' ? first : '';
}

/** The number in an optional column; nothing when it is empty. */
export function integer(value: unknown): number | undefined {
  const [first] = elements(value);
  return typeof first === 'number' ? first : undefined;
}

export function uuidText(value: unknown): string | undefined {
  const [first] = elements(value);
  return Array.isArray(first) && first[0] === 'uuid' && typeof first[1] === 'string' ? first[1] : undefined;
}

export function textMap(value: unknown): Readonly<Record<string, string>> {
  const result: Record<string, string> = {};
  for (const [key, item] of pairs(value)) {
    if (typeof key === 'string' && typeof item === 'string') result[key] = item;
  }
  return result;
}

/** The pairs of a map. */
export function pairs(value: unknown): readonly (readonly [unknown, unknown])[] {
  if (!Array.isArray(value) || value[0] !== 'map' || !Array.isArray(value[1])) return [];
  return value[1].filter((pair): pair is [unknown, unknown] => Array.isArray(pair) && pair.length === 2);
}

/** What an `update2` says about a column of a changed row (ovsdb-server(7), section 4.1.14). */
export type ColumnKind =
  /** At most one value: the update has the new one. */
  | 'plain'
  /** The update has the elements that came and those that went. */
  | 'set'
  /** The update has the pairs that came or changed, and those that went as they were. */
  | 'map';

/** The new value of a column, from its old one and what `update2` said. */
export function applyDifference(kind: ColumnKind, old: unknown, difference: unknown): unknown {
  switch (kind) {
    case 'plain':
      return difference;
    case 'set': {
      const kept = new Map(elements(old).map((element) => [JSON.stringify(element), element]));
      for (const element of elements(difference)) {
        const key = JSON.stringify(element);
        if (!kept.delete(key)) kept.set(key, element);
      }
      return ['set', [...kept.values()]];
    }
    case 'map': {
      const kept = new Map(pairs(old).map((pair) => [JSON.stringify(pair[0]), pair]));
      for (const pair of pairs(difference)) {
        const key = JSON.stringify(pair[0]);
        const before = kept.get(key);
        if (before !== undefined && JSON.stringify(before[1]) === JSON.stringify(pair[1])) kept.delete(key);
        else kept.set(key, pair);
      }
      return ['map', [...kept.values()]];
    }
  }
}
