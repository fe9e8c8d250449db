/** What a transaction says, and what it is answered (RFC 7047, sections 4.1.3 and 5.2). Pure. */
import { isRecord } from './json-rpc.js';
import { RpcError } from './rpc-error.js';
import type { Row, Value } from './values.js';

export type Condition = readonly [column: string, comparison: string, value: Value];
export type Mutation = readonly [column: string, mutator: string, value: Value];

export type Operation =
  | {
      readonly op: 'select';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns?: readonly string[];
    }
  | {
      readonly op: 'insert';
      readonly table: string;
      readonly row: Readonly<Record<string, Value>>;
      /** Must match `[A-Za-z_][A-Za-z0-9_]*`: `createUuidNames` makes such names. */
      readonly 'uuid-name'?: string;
    }
  | {
      readonly op: 'update';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly row: Readonly<Record<string, Value>>;
    }
  | {
      readonly op: 'mutate';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly mutations: readonly Mutation[];
    }
  | { readonly op: 'delete'; readonly table: string; readonly where: readonly Condition[] }
  | {
      readonly op: 'wait';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns: readonly string[];
      readonly until: '==' | '!=';
      readonly rows: readonly Readonly<Record<string, Value>>[];
      /** Milliseconds; 0: it holds now, or the transaction fails; nothing: for ever, so until the call is given up. */
      readonly timeout?: number;
    }
  /** With `durable` the answer comes when the change is on disk. */
  | { readonly op: 'commit'; readonly durable: boolean }
  /** The transaction fails (`aborted`), whatever was done in it. */
  | { readonly op: 'abort' }
  /** Goes to the database's log. */
  | { readonly op: 'comment'; readonly comment: string }
  /** The transaction fails (`not owner`) unless this connection holds the lock. */
  | { readonly op: 'assert'; readonly lock: string };

export interface OperationResult {
  /** Rows changed by `update`, `mutate` and `delete`. */
  readonly count?: number;
  /** Rows found by `select`. */
  readonly rows?: readonly Row[];
  /** The row that `insert` made. */
  readonly uuid?: unknown;
}

/** RFC 7047's words (sections 3.1 and 5.2) and ovsdb-server's own (ovsdb-server(7), 3.1), which may come to have more. */
export type OperationFailure =
  | 'aborted'
  | 'constraint violation'
  | 'domain error'
  | 'duplicate uuid-name'
  | 'internal error'
  | 'I/O error'
  | 'not owner'
  | 'not supported'
  | 'ovsdb error'
  | 'permission error'
  | 'range error'
  | 'referential integrity violation'
  | 'resources exhausted'
  | 'syntax error'
  | 'timed out'
  | 'unknown column'
  | (string & {});

/** One operation of a transaction failed, so nothing of it was done. */
export class OperationError extends Error {
  /** Index of the operation; the number of operations when the commit as a whole failed. */
  readonly index: number;
  readonly error: OperationFailure;
  readonly details: string;

  constructor(index: number, error: string, details: string) {
    super(`operation ${index} failed: ${error}${details === '' ? '' : ` (${details})`}`);
    this.name = 'OperationError';
    this.index = index;
    this.error = error;
    this.details = details;
  }
}

/** The RPC succeeds even when operations fail: their errors stand in the result, where they must be looked for. */
export function checkResults(operationCount: number, results: unknown): OperationResult[] {
  if (!Array.isArray(results)) throw new RpcError('protocol', 'the answer to transact is no array');
  results.forEach((result: unknown, index) => {
    if (!isRecord(result) || typeof result['error'] !== 'string') return;
    throw new OperationError(index, result['error'], typeof result['details'] === 'string' ? result['details'] : '');
  });
  if (results.length < operationCount) throw new RpcError('protocol', 'the answer to transact is too short');
  return results.map((result: unknown) => (isRecord(result) ? result : {}));
}

/**
 * Makes names for the rows that one transaction inserts: the same for the same text, another for another, and legal
 * (`<id>` of RFC 7047, 3.1) whatever the text. A bridge may be named `br-int`, its row may not.
 */
export function createUuidNames(): (text: string) => string {
  const names = new Map<string, string>();
  const taken = new Set<string>();
  return (text) => {
    const known = names.get(text);
    if (known !== undefined) return known;
    const legal = `row_${text.replace(/[^A-Za-z0-9_]/g, '_')}`;
    let name = legal;
    for (let i = 2; taken.has(name); i++) name = `${legal}_${i}`;
    names.set(text, name);
    taken.add(name);
    return name;
  };
}
