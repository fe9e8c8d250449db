/** A database's schema (RFC 7047, section 3.2), and rows by it as plain values of JavaScript. Pure. */
import { isRecord } from './json-rpc.js';
import type { MonitorSpec } from './monitor.js';
import { RpcError } from './rpc-error.js';
import { type Atom, type ColumnKind, elements, pairs, type Row } from './values.js';

export type AtomType = 'integer' | 'real' | 'boolean' | 'string' | 'uuid';

export interface BaseType {
  readonly type: AtomType;
  readonly enum?: readonly Atom[];
  readonly minInteger?: number;
  readonly maxInteger?: number;
  readonly minReal?: number;
  readonly maxReal?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** Of a UUID: the table whose row it names, and whether it keeps that row alive. */
  readonly refTable?: string;
  readonly refType?: 'strong' | 'weak';
}

export interface ColumnType {
  readonly key: BaseType;
  /** The column is a map then. */
  readonly value?: BaseType;
  readonly min: number;
  readonly max: number | 'unlimited';
}

export interface ColumnSchema {
  readonly type: ColumnType;
  /** Not kept over a restart of the server. */
  readonly isEphemeral: boolean;
  readonly isMutable: boolean;
}

export interface TableSchema {
  readonly columns: ReadonlyMap<string, ColumnSchema>;
  readonly maxRows?: number;
  /** Its rows live without a reference to them. */
  readonly isRoot: boolean;
  /** Columns that are unique together. */
  readonly indexes: readonly (readonly string[])[];
}

export interface DatabaseSchema {
  readonly name: string;
  /** ovsdb-server lets it be missing. */
  readonly version?: string;
  readonly cksum?: string;
  readonly tables: ReadonlyMap<string, TableSchema>;
}

/** A UUID is text here; `undefined` is an optional column that is empty. */
export type PlainAtom = string | number | boolean;
export type PlainValue = PlainAtom | undefined | readonly PlainAtom[] | ReadonlyMap<PlainAtom, PlainAtom>;
export type PlainRow = Readonly<Record<string, PlainValue>>;

const ATOM_TYPES: readonly string[] = ['integer', 'real', 'boolean', 'string', 'uuid'] satisfies AtomType[];
const NO_UUID = '00000000-0000-0000-0000-000000000000';
/** Every table has them (RFC 7047, 3.2). */
const IMPLIED: ColumnSchema = {
  type: { key: { type: 'uuid' }, min: 1, max: 1 },
  isEphemeral: false,
  isMutable: false,
};

/** Reads the answer to `get_schema`. Throws `RpcError` (`protocol`) that names what is wrong, and where. */
export function parseSchema(json: unknown): DatabaseSchema {
  const schema = record(json, 'the schema');
  const { version, cksum } = schema;
  return {
    name: text(schema['name'], 'the name of the schema'),
    ...(typeof version === 'string' && { version }),
    ...(typeof cksum === 'string' && { cksum }),
    tables: mapOf(schema['tables'], 'tables', parseTable),
  };
}

/** Columns of tables as a monitor wants them; all columns of a table that comes without a list. */
export function monitorSpecOf(
  { tables }: DatabaseSchema,
  wanted: Readonly<Record<string, readonly string[] | undefined>>,
): MonitorSpec {
  const spec: Record<string, { readonly columns: Record<string, ColumnKind> }> = {};
  for (const [name, names] of Object.entries(wanted)) {
    const table = tables.get(name);
    if (table === undefined) throw new RpcError('protocol', `the schema has no table ${name}`);
    const columns: Record<string, ColumnKind> = {};
    for (const column of names ?? table.columns.keys()) columns[column] = kindOf(columnOf(name, table, column).type);
    spec[name] = { columns };
  }
  return spec;
}

/** How the changes of such a column arrive. */
export function kindOf({ value, max }: ColumnType): ColumnKind {
  if (value !== undefined) return 'map';
  return max === 1 ? 'plain' : 'set';
}

/** What is in a row's columns. Those that the row leaves out, because they have their default, stay left out. */
export function plainRow(tableName: string, table: TableSchema, row: Row): PlainRow {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name, plainValue(columnOf(tableName, table, name).type, value)]),
  );
}

/** One value: an atom, an atom or nothing, an array or a Map, by the column's type. `undefined` reads as the default. */
export function plainValue({ key, value: item, min, max }: ColumnType, value: unknown): PlainValue {
  if (item !== undefined) {
    return new Map(pairs(value).map(([name, content]) => [plainAtom(key, name), plainAtom(item, content)]));
  }
  const atoms = elements(value).map((element) => plainAtom(key, element));
  if (max !== 1) return atoms;
  return atoms[0] ?? (min === 0 ? undefined : defaultOf(key));
}

function plainAtom({ type }: BaseType, atom: unknown): PlainAtom {
  if (type === 'uuid') {
    if (Array.isArray(atom) && atom[0] === 'uuid' && typeof atom[1] === 'string') return atom[1];
  } else if (typeof atom === (type === 'integer' || type === 'real' ? 'number' : type)) {
    return atom as PlainAtom;
  }
  throw new RpcError('protocol', `${JSON.stringify(atom)} where the schema has ${type}`);
}

function defaultOf({ type }: BaseType): PlainAtom {
  switch (type) {
    case 'integer':
    case 'real':
      return 0;
    case 'boolean':
      return false;
    case 'string':
      return '';
    case 'uuid':
      return NO_UUID;
  }
}

function columnOf(tableName: string, table: TableSchema, name: string): ColumnSchema {
  const column = name === '_uuid' || name === '_version' ? IMPLIED : table.columns.get(name);
  if (column === undefined) throw new RpcError('protocol', `table ${tableName} of the schema has no column ${name}`);
  return column;
}

function parseTable(json: unknown, where: string): TableSchema {
  const table = record(json, where);
  const { maxRows, isRoot, indexes } = table;
  return {
    columns: mapOf(table['columns'], `columns of ${where}`, parseColumn),
    ...(typeof maxRows === 'number' && { maxRows }),
    isRoot: isRoot === true,
    indexes: Array.isArray(indexes) ? indexes.map((columns) => list(columns, `indexes of ${where}`)) : [],
  };
}

function parseColumn(json: unknown, where: string): ColumnSchema {
  const column = record(json, where);
  return {
    type: parseType(column['type'], where),
    isEphemeral: column['ephemeral'] === true,
    isMutable: column['mutable'] !== false,
  };
}

/** A type is the name of an atomic one, or an object; the same goes for what it is made of. */
function parseType(json: unknown, where: string): ColumnType {
  if (typeof json === 'string') return { key: parseBase(json, where), min: 1, max: 1 };
  const { key, value, min = 1, max = 1 } = record(json, `the type of ${where}`);
  if (min !== 0 && min !== 1) throw wrong(`min of ${where}`);
  if (max !== 'unlimited' && !(typeof max === 'number' && max >= 1)) throw wrong(`max of ${where}`);
  return { key: parseBase(key, where), ...(value !== undefined && { value: parseBase(value, where) }), min, max };
}

function parseBase(json: unknown, where: string): BaseType {
  const base = typeof json === 'string' ? { type: json } : record(json, `the type of ${where}`);
  const { type, enum: choices, refTable, refType, ...bounds } = base as Record<string, unknown>;
  if (typeof type !== 'string' || !ATOM_TYPES.includes(type)) throw wrong(`the type of ${where}`);
  const numbers = Object.entries(bounds).filter(([name, bound]) => BOUNDS.includes(name) && typeof bound === 'number');
  return {
    type: type as AtomType,
    ...(choices !== undefined && { enum: elements(choices) as readonly Atom[] }),
    ...Object.fromEntries(numbers),
    ...(typeof refTable === 'string' && { refTable, refType: refType === 'weak' ? 'weak' : 'strong' }),
  };
}

const BOUNDS: readonly string[] = ['minInteger', 'maxInteger', 'minReal', 'maxReal', 'minLength', 'maxLength'];

function mapOf<T>(json: unknown, what: string, parse: (json: unknown, where: string) => T): ReadonlyMap<string, T> {
  return new Map(Object.entries(record(json, what)).map(([name, part]) => [name, parse(part, name)]));
}

function record(json: unknown, what: string): Record<string, unknown> {
  if (isRecord(json)) return json;
  throw wrong(what);
}

function text(json: unknown, what: string): string {
  if (typeof json === 'string') return json;
  throw wrong(what);
}

function list(json: unknown, what: string): readonly string[] {
  if (Array.isArray(json)) return json.map((item) => text(item, what));
  throw wrong(what);
}

function wrong(what: string): RpcError {
  return new RpcError('protocol', `the server gave a schema that can not be read: ${what}`);
}
