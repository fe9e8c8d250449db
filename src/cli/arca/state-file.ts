/** State files as verbs are given them: read, checked, and their mistakes printed. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { ArcaError, errnoOf, toArcaError } from '../../errors.js';
import type { DesiredState } from '../../state/model.js';
import { visible } from './text.js';

export interface ReadDocument {
  readonly state: DesiredState;
  readonly warnings: readonly string[];
}

/** Stands for standard input where a file is wanted. */
export const STDIN = '-';
const EMPTY_FILE = '{ "version": 1, "plugins": { "network": {} } }';

/** No file: an empty one. `name` is what messages call it. */
export async function readDocument(file: string | undefined, name: string): Promise<ReadDocument> {
  const content = file === undefined ? EMPTY_FILE : await readContent(file, name);
  // Loaded here: the library of its schema takes longer than all the rest of a short verb.
  const { documentProblemText, readStateDocument } = await import('../../state/document.js');
  return withLines(
    name,
    Promise.resolve().then(() => {
      const { state, warnings } = readStateDocument(content, name);
      return { state, warnings: warnings.map(documentProblemText) };
    }),
  );
}

async function readContent(file: string, name: string): Promise<string> {
  const reading = file === STDIN ? readAll(process.stdin) : readFile(file, 'utf8');
  return reading.catch((cause: unknown) => {
    const why = errnoOf(cause) === 'ENOENT' ? 'there is no such file' : toArcaError(cause).message;
    throw new ArcaError('usage', `${name} can not be read: ${why}`, { cause });
  });
}

/** Prints the mistakes of the file, a line for each, which the one line of an error can't have. */
export async function withLines<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ArcaError) || !['state-invalid', 'flow-invalid'].includes(error.code)) throw error;
    const lines = error.message.split('\n');
    for (const line of lines) console.error(visible(line));
    const count = lines.length === 1 ? 'one mistake' : `${lines.length} mistakes`;
    const { code, details } = error;
    throw new ArcaError(code, `${name} has ${count}; nothing was done`, { cause: error, ...(details && { details }) });
  }
}
