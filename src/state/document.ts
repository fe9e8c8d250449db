/** Reads a state file: its syntax, its schema, and what its parts mean beside each other. Pure. */
import type { TLocalizedValidationError } from 'typebox/error';
import { Settings } from 'typebox/system';
import { Errors } from 'typebox/value';
import { ArcaError } from '../errors.js';
import { checkNetwork } from './document-checks.js';
import { type JsonDocument, type JsonPath, pathText, readJson } from './document-json.js';
import type { DesiredState } from './model.js';
import { StateFile } from './schema.js';

export interface DocumentProblem {
  readonly file: string;
  /** From 1, as editors count. */
  readonly line: number;
  readonly column: number;
  /** As `$.plugins.network.bridges[0].name`. */
  readonly pointer: string;
  /** What is there, and what was expected. */
  readonly message: string;
}

export interface StateDocument {
  readonly state: DesiredState;
  readonly warnings: readonly DocumentProblem[];
}

/** What is wrong with a part; `at` says whether the key or the value is pointed at. */
export interface Finding {
  readonly path: JsonPath;
  readonly at: 'key' | 'value';
  readonly message: string;
}

/** By default TypeBox stops at 8, of which an unknown key takes two. Nothing else of ours uses its checks. */
Settings.Set({ maxErrors: 200 });

/** Throws `state-invalid`: a line for each error, and `details.errors` as DocumentProblem[]. */
export function readStateDocument(text: string, file: string): StateDocument {
  const document = readJson(text);
  if ('problems' in document) {
    throw invalid(
      document.problems.map(({ path, place, message }) => ({ file, ...place, pointer: pathText(path), message })),
    );
  }
  const locate = ({ path, at, message }: Finding): DocumentProblem => {
    const place = at === 'key' ? document.keyAt(path) : document.valueAt(path);
    return { file, ...place, pointer: pathText(path), message };
  };
  const { value } = document;
  const mistakes = schemaFindings(value);
  if (mistakes.length > 0) throw invalid(mistakes.map(locate));
  // The schema has just said so.
  const stateFile = value as StateFile;
  const { state, errors, warnings } = checkNetwork(stateFile.plugins.network, lineOf(document));
  if (errors.length > 0) throw invalid(errors.map(locate));
  return { state, warnings: [...foreignPlugins(stateFile), ...warnings].map(locate).sort(byPlace) };
}

/** `FILE:LINE:COLUMN: POINTER: MESSAGE`, as compilers write it. */
export function documentProblemText({ file, line, column, pointer, message }: DocumentProblem): string {
  return `${file}:${line}:${column}: ${pointer}: ${message}`;
}

function invalid(problems: readonly DocumentProblem[]): ArcaError {
  const errors = [...problems].sort(byPlace);
  return new ArcaError('state-invalid', errors.map(documentProblemText).join('\n'), { details: { errors } });
}

function byPlace(one: DocumentProblem, other: DocumentProblem): number {
  return one.line - other.line || one.column - other.column;
}

function lineOf(document: JsonDocument): (path: JsonPath) => number {
  return (path) => document.valueAt(path).line;
}

function foreignPlugins({ plugins }: StateFile): Finding[] {
  return Object.keys(plugins)
    .filter((name) => name !== 'network')
    .map((name) => ({
      path: ['plugins', name],
      at: 'key',
      message: 'this plugin is not looked at; arca knows network and no other',
    }));
}

/** One for each part that is wrong. */
function schemaFindings(value: unknown): Finding[] {
  const findings = new Map<string, Finding>();
  for (const error of Errors(StateFile, value)) {
    for (const finding of explain(value, error)) {
      const key = pathText(finding.path);
      if (!findings.has(key)) findings.set(key, finding);
    }
  }
  return [...findings.values()];
}

function explain(root: unknown, error: TLocalizedValidationError): Finding[] {
  const { path, value } = follow(root, error.instancePath);
  const schema = partOfSchema(error.schemaPath);
  switch (error.keyword) {
    case 'boolean':
      // Of an unknown key, which additionalProperties tells, too.
      return [];
    case 'additionalProperties': {
      const known = Object.keys(schema.properties ?? {});
      return error.params.additionalProperties.map((key) => ({
        path: [...path, key],
        at: 'key',
        message: `there is no such key; ${nearest(key, known)}`,
      }));
    }
    case 'required':
      return error.params.requiredProperties
        .filter((key) => !Object.hasOwn(Object(value), key))
        .map((key) => ({
          path: [...path, key],
          at: 'value',
          message: `is missing; expected ${expectedAt(schema, key)}`,
        }));
    default:
      return [{ path, at: 'value', message: `${describe(value)} is here; expected ${expected(schema, value)}` }];
  }
}

interface SchemaPart {
  readonly type?: string | readonly string[];
  readonly title?: string;
  readonly properties?: Readonly<Record<string, SchemaPart>>;
}

function expectedAt(schema: SchemaPart, key: string): string {
  return schema.properties?.[key]?.title ?? 'a value';
}

function expected({ type, title }: SchemaPart, value: unknown): string {
  const text = title ?? 'something else';
  const isQuoted =
    typeof value === 'string' &&
    ['integer', 'number', 'boolean'].includes(String(type)) &&
    /^(\d+|true|false)$/.test(value);
  return isQuoted ? `${text}, without quotes` : text;
}

function partOfSchema(schemaPath: string): SchemaPart {
  let part: unknown = StateFile;
  for (const step of schemaPath.split('/').slice(1)) part = Object(part)[step];
  return Object(part);
}

/** A JSON pointer as a path; the innermost part of it that is there. */
function follow(root: unknown, pointer: string): { readonly path: JsonPath; readonly value: unknown } {
  const path: (string | number)[] = [];
  let value = root;
  for (const step of pointer.split('/').slice(1)) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~');
    if (!Object.hasOwn(Object(value), key)) break;
    path.push(Array.isArray(value) ? Number(key) : key);
    value = Object(value)[key];
  }
  return { path, value };
}

const LONGEST_SHOWN = 60;

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  switch (typeof value) {
    case 'string': {
      const text = JSON.stringify(value);
      return `the text ${text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}..."` : text}`;
    }
    case 'number':
      return `the number ${value}`;
    case 'object':
      return value === null ? 'null' : 'an object';
    default:
      return String(value);
  }
}

function nearest(key: string, known: readonly string[]): string {
  const near = known.map((name) => ({ name, distance: distance(key.toLowerCase(), name) }));
  const [best] = near.sort((one, other) => one.distance - other.distance);
  if (best !== undefined && best.distance <= Math.max(1, Math.floor(best.name.length / 3))) {
    return `did you mean ${best.name}?`;
  }
  return `expected one of ${known.join(', ')}`;
}

/** Levenshtein's. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...one].entries()) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++) {
      const replaced = (row[j] ?? 0) + (letter === other[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
