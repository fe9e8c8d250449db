/** JSON text with the places of its parts, so that what is wrong in it can be pointed at. Pure. */
import {
  createScanner,
  findNodeAtLocation,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';

/** Keys and indices from the top of the document. */
export type JsonPath = readonly (string | number)[];

/** From 1, as editors count. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface JsonDocument {
  readonly value: unknown;
  /** Of the value; of the innermost part around it that is there, when it is not. */
  valueAt(path: JsonPath): Place;
  /** Of the key, when the last part of the path is one. */
  keyAt(path: JsonPath): Place;
}

export interface JsonProblem {
  readonly path: JsonPath;
  readonly place: Place;
  readonly message: string;
}

/** A state file has 7 levels. */
const DEEPEST = 64;
/** Characters of what is wrong that are shown. */
const LONGEST_SEEN = 20;

/** The document, or why it is none. As strict as JSON.parse, and a key that stands twice in an object is refused. */
export function readJson(text: string): JsonDocument | { readonly problems: readonly JsonProblem[] } {
  const placeOf = placesIn(text);
  const tooDeep = firstTooDeep(text);
  if (tooDeep !== undefined) {
    return { problems: [{ path: [], place: placeOf(tooDeep), message: `is nested deeper than ${DEEPEST} levels` }] };
  }
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true });
  const [first] = errors;
  if (first !== undefined || tree === undefined) {
    // What comes after the first mistake is mostly its consequence.
    return { problems: [{ path: [], place: placeOf(first?.offset ?? 0), message: syntaxText(text, first) }] };
  }
  const problems: JsonProblem[] = [];
  collectTwins(tree, [], placeOf, problems);
  if (problems.length > 0) return { problems };

  const nodeAt = (path: JsonPath): Node => {
    for (let length = path.length; length > 0; length--) {
      const node = findNodeAtLocation(tree, [...path.slice(0, length)]);
      if (node !== undefined) return node;
    }
    return tree;
  };
  return {
    // Not of the tree: there a key `__proto__` would be lost.
    value: JSON.parse(text),
    valueAt: (path) => placeOf(nodeAt(path).offset),
    keyAt(path) {
      const node = nodeAt(path);
      return placeOf((node.parent?.type === 'property' ? node.parent : node).offset);
    },
  };
}

/** `$.plugins.network.bridges[0].name` */
export function pathText(path: JsonPath): string {
  const parts = path.map((part) => {
    if (typeof part === 'number') return `[${part}]`;
    return /^[A-Za-z_$][\w$]*$/.test(part) ? `.${part}` : `[${JSON.stringify(part)}]`;
  });
  return `$${parts.join('')}`;
}

/** The parser calls itself for each level, and is not to run out of stack. */
function firstTooDeep(text: string): number | undefined {
  const scanner = createScanner(text, true);
  let depth = 0;
  for (;;) {
    const before = scanner.getPosition();
    scanner.scan();
    if (scanner.getPosition() === before) return undefined;
    const token = text[scanner.getTokenOffset()];
    if (scanner.getTokenLength() !== 1) continue;
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    if (depth > DEEPEST) return scanner.getTokenOffset();
  }
}

function collectTwins(node: Node, path: JsonPath, placeOf: (offset: number) => Place, problems: JsonProblem[]): void {
  if (node.type === 'array') {
    for (const [index, item] of (node.children ?? []).entries()) {
      collectTwins(item, [...path, index], placeOf, problems);
    }
  }
  if (node.type !== 'object') return;
  const seen = new Map<string, Place>();
  for (const property of node.children ?? []) {
    const [key, value] = property.children ?? [];
    if (key === undefined || value === undefined) continue;
    const name = String(key.value);
    const place = placeOf(key.offset);
    const twin = seen.get(name);
    if (twin === undefined) seen.set(name, place);
    else problems.push({ path: [...path, name], place, message: `the key stands twice, first in line ${twin.line}` });
    collectTwins(value, [...path, name], placeOf, problems);
  }
}

type SyntaxFault = ReturnType<typeof printParseErrorCode>;

const SYNTAX_TEXTS: Partial<Record<SyntaxFault, (seen: string) => string>> = {
  PropertyNameExpected: (seen) => `${seen} is here, where a key in double quotes is expected (a comma too many?)`,
  ValueExpected: (seen) => `${seen} is here, where a value is expected (a comma too many?)`,
  ColonExpected: (seen) => `${seen} is here, where a colon is expected`,
  CommaExpected: (seen) => `${seen} is here, where a comma is expected`,
  CloseBraceExpected: (seen) => `${seen} is here, where "}" or a comma is expected`,
  CloseBracketExpected: (seen) => `${seen} is here, where "]" or a comma is expected`,
  EndOfFileExpected: (seen) => `${seen} stands after its end`,
  InvalidCommentToken: () => 'comments are not allowed',
  UnexpectedEndOfComment: () => 'comments are not allowed',
  UnexpectedEndOfString: () => 'a text does not end in its line',
  InvalidUnicode: (seen) => `${seen} has an escape that JSON does not know`,
  InvalidEscapeCharacter: (seen) => `${seen} has an escape that JSON does not know`,
  InvalidCharacter: () => 'a control character stands in a text; write it as an escape',
};

function syntaxText(text: string, error: ParseError | undefined): string {
  if (text.trim() === '') return 'the file is empty';
  const found = text.slice(error?.offset ?? 0).slice(0, Math.max(1, Math.min(error?.length ?? 1, LONGEST_SEEN)));
  const seen = found === '' ? 'the end of the file' : JSON.stringify(found);
  const explain = error && SYNTAX_TEXTS[printParseErrorCode(error.error)];
  return `this is no JSON: ${explain === undefined ? `${seen} is not expected here` : explain(seen)}`;
}

function placesIn(text: string): (offset: number) => Place {
  const starts = [0];
  for (const match of text.matchAll(/\r\n|\n|\r/g)) starts.push(match.index + match[0].length);
  return (offset) => {
    let line = 1;
    while (line < starts.length && (starts[line] ?? 0) <= offset) line += 1;
    return { line, column: offset - (starts[line - 1] ?? 0) + 1 };
  };
}
