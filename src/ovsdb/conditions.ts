/** What the server decides in a `where` (RFC 7047, section 5.1), for rows that come without having been chosen. Pure. */
import type { Condition } from './operations.js';
import { elements, type Row } from './values.js';

/** Whether a row, with all columns that are named, meets one of the conditions; any row does when there are none. */
export function isMatch(row: Row, conditions: readonly Condition[]): boolean {
  return conditions.length === 0 || conditions.some((condition) => meets(row, condition));
}

function meets(row: Row, [column, comparison, value]: Condition): boolean {
  const has = keysOf(row[column]);
  const wants = keysOf(value);
  switch (comparison) {
    case 'includes':
      return [...wants].every((key) => has.has(key));
    case 'excludes':
      return ![...wants].some((key) => has.has(key));
    case '==':
      return isSame(has, wants);
    case '!=':
      return !isSame(has, wants);
    default:
      return isInOrder(elements(row[column])[0], comparison, elements(value)[0]);
  }
}

/** Of the elements of a set, or of the pairs of a map: something to compare them by. */
function keysOf(value: unknown): ReadonlySet<string> {
  const isMap = Array.isArray(value) && value[0] === 'map' && Array.isArray(value[1]);
  const parts: readonly unknown[] = isMap ? value[1] : elements(value);
  return new Set(parts.map((part) => JSON.stringify(part)));
}

function isSame(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return one.size === other.size && [...one].every((key) => other.has(key));
}

/** An optional column that is empty is in no order. */
function isInOrder(one: unknown, comparison: string, other: unknown): boolean {
  if (typeof one !== 'number' || typeof other !== 'number') return false;
  switch (comparison) {
    case '<':
      return one < other;
    case '<=':
      return one <= other;
    case '>':
      return one > other;
    case '>=':
      return one >= other;
    default:
      return false;
  }
}
