/** What the programs that run on have in common: how they load the addon, and how they are told to stop. */
import { type Command, CommanderError } from 'commander';
import { ArcaError, ERROR_KINDS, toArcaError } from '../../errors.js';

export type Native = typeof import('../../native.js');

/** Gives the options of the command line, or the exit code when there is nothing more to do: commander has printed why. */
export function parseCommandLine<Options extends object>(command: Command): Options | number {
  try {
    return command.exitOverride().parse().opts<Options>();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : ERROR_KINDS.usage.exitCode;
  }
}

/** For options that may be repeated. */
export function list(value: string, values: readonly string[] = []): string[] {
  return [...values, value];
}

export async function loadAddon(): Promise<Native> {
  try {
    return await import('../../native.js');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n', 1)[0] : String(cause);
    throw new ArcaError('addon-missing', `the native addon can not be loaded: ${why}; build it: npm run build`, {
      cause,
    });
  }
}

/**
 * The first signal aborts with the signal's name as reason; the second ends the process at once, and undoes nothing.
 * An error that nobody caught aborts too, with itself as reason: it must not leave anything behind.
 */
export function watchSignals(): AbortSignal {
  const controller = new AbortController();
  process.on('uncaughtException', (error) => controller.abort(error));
  // A terminal that closes means stop, as it does to QEMU.
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(ERROR_KINDS['forced-exit'].exitCode);
      controller.abort(name);
    });
  }
  return controller.signal;
}

/** The name of the signal, or the error, that aborted. */
export async function aborted(signal: AbortSignal): Promise<string | ArcaError> {
  if (!signal.aborted) {
    await new Promise((resolve) => {
      signal.addEventListener('abort', resolve, { once: true });
    });
  }
  return typeof signal.reason === 'string' ? signal.reason : toArcaError(signal.reason);
}
