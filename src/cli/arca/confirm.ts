/** The question before something is changed that is not easily taken back. */
import { createInterface } from 'node:readline/promises';
import { ArcaError } from '../../errors.js';

/**
 * Resolves when a person said yes; rejects with `not-confirmed` when nobody can be asked, or said anything else.
 * `isScripted`: who called does not want to be asked, whatever standard input is.
 */
export async function askForYes(summary: string, isScripted: boolean, signal?: AbortSignal): Promise<void> {
  if (isScripted || process.stdin.isTTY !== true || process.stderr.isTTY !== true) {
    throw new ArcaError('not-confirmed', `${summary}: nobody is there to be asked, so nothing was done; --yes does it`);
  }
  const dialog = createInterface({ input: process.stdin, output: process.stderr });
  const interrupted = new AbortController();
  dialog.once('SIGINT', () => interrupted.abort());
  dialog.once('close', () => interrupted.abort());
  try {
    const answer = await dialog.question('Do it? Only yes is taken: ', {
      signal: AbortSignal.any([interrupted.signal, ...(signal ? [signal] : [])]),
    });
    if (answer.trim() === 'yes') return;
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
    process.stderr.write('\n');
  } finally {
    dialog.close();
  }
  throw new ArcaError('not-confirmed', 'nothing was done');
}
