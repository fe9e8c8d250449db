/** `--watch` and `arca events`: driven by the stream of events, ended by Ctrl-C with exit code 0. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { ArcaError } from '../../errors.js';
import { createLatch } from '../../latch.js';
import { openSession, type Session } from './session.js';
import { coloured, jsonText, visible } from './text.js';

export const WATCH_OPTION = ['--watch', 'show it again whenever something changes; Ctrl-C ends'] as const;

/** What is shown once, and with `--watch` again and again. */
export interface View<T> {
  read(session: Session): Promise<T>;
  render(value: T, session: Session): readonly string[];
}

/** A control process that is being restarted is asked again this often. */
const RETRY_MS = 500;
const CLEAR_SCREEN = '\u001b[H\u001b[2J';

/** Runs `work` until it ends, or a signal does: that is no failure. */
export async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await work(interrupt.signal);
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Shows the view for ever; a control process that goes away is waited for. */
export function watch<T>(command: Command, view: View<T>): Promise<void> {
  return untilInterrupted(async (signal) => {
    const session = openSession(command, signal);
    const screen = createScreen(command, session);
    for (;;) {
      try {
        await watchOnce(session, view, screen, signal);
        screen.note('arca-control ended the stream of events; waiting for it');
      } catch (error) {
        const isAway = error instanceof ArcaError && error.code === 'control-unreachable';
        // Who was never there is not waited for.
        if (signal.aborted || !isAway || !screen.hasShown()) throw error;
        screen.note(error.message);
      }
      await delay(RETRY_MS, undefined, { signal });
    }
  });
}

/** Resolves when the server ends the stream. */
async function watchOnce<T>(session: Session, view: View<T>, screen: Screen, signal: AbortSignal): Promise<void> {
  const stream = await session.client.openEvents();
  const changed = createLatch();
  let ended: { readonly error?: unknown } | undefined;
  const reading = (async () => {
    for await (const _event of stream.events) changed.set();
  })();
  void reading.then(
    () => {
      ended = {};
      changed.set();
    },
    (error: unknown) => {
      ended = { error };
      changed.set();
    },
  );
  try {
    while (ended === undefined) {
      const value = await view.read(session);
      screen.show(session.isJson ? [jsonText(value)] : view.render(value, session));
      // What changed while it was read counts: the latch remembers.
      await changed.wait({ signal });
      signal.throwIfAborted();
    }
    if (ended.error !== undefined) throw ended.error;
  } finally {
    stream.close();
  }
}

interface Screen {
  /** What is the same as before is not shown again. */
  show(lines: readonly string[]): void;
  hasShown(): boolean;
  /** On stderr. */
  note(text: string): void;
}

/** A terminal is written anew; elsewhere each state follows the last, as JSON one line each. */
function createScreen(command: Command, session: Session): Screen {
  const isTerminal = process.stdout.isTTY === true && !session.isJson;
  let last: string | undefined;
  let lastNote: string | undefined;
  return {
    show(lines) {
      const text = lines.join('\n');
      lastNote = undefined;
      if (text === last) return;
      const time = new Date().toTimeString().slice(0, 8);
      const title = `arca ${command.name()}  ${session.where}  ${time}  (Ctrl-C ends)`;
      if (isTerminal) process.stdout.write(`${CLEAR_SCREEN}${coloured(visible(title), 'dim', session.style)}\n\n`);
      else if (last !== undefined && !session.isJson) process.stdout.write('\n');
      session.print(lines);
      last = text;
    },
    hasShown: () => last !== undefined,
    note(text) {
      if (text !== lastNote) console.error(`arca: ${visible(text)}`);
      lastNote = text;
    },
  };
}
