/** The run directory: one control process at a time, and the relays' sockets and logs in it. */
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ArcaError, errnoOf } from '../errors.js';
import { CommandError, run } from '../exec.js';

export interface RunDir {
  readonly path: string;
  /** Of status sockets and logs. */
  readonly relaysDir: string;
  /** Lets the next one in. */
  release(): Promise<void>;
}

const LOCK_TIMEOUT_MS = 5_000;
/** A status socket's path has to fit into `sun_path` (unix(7)): RUN_DIR/relays/NAME.sock with a name of 15 bytes. */
const LONGEST_RUN_DIR_BYTES = 107 - '/relays/'.length - 15 - '.sock'.length;

/**
 * Makes it, and takes its lock: a flock(2), which ends with the process that has it, however that ends. Rejects with
 * `endpoint-in-use` when another process has it.
 */
export async function claimRunDir(path: string): Promise<RunDir> {
  if (Buffer.byteLength(path) > LONGEST_RUN_DIR_BYTES) {
    throw new ArcaError('usage', `the run directory's path is longer than ${LONGEST_RUN_DIR_BYTES} bytes: ${path}`);
  }
  const relaysDir = join(path, 'relays');
  const lockPath = join(path, 'control.lock');
  try {
    await mkdir(relaysDir, { recursive: true, mode: 0o750 });
  } catch (cause) {
    throw unusable(path, cause);
  }
  // Append, so that the owner's process id stays there to be read by who comes too late.
  const lock = await open(lockPath, 'a+', 0o640).catch((cause: unknown) => {
    throw unusable(path, cause);
  });
  try {
    // The lock belongs to the open file, which flock(1) shares with us, and not to the process that asked for it.
    await run('flock', ['--nonblock', '3'], { timeoutMs: LOCK_TIMEOUT_MS, inherit: [lock.fd] });
    await lock.truncate();
    await lock.write(`${process.pid}\n`);
  } catch (error) {
    const owner = (await lock.readFile('utf8').catch(() => '')).trim();
    await lock.close();
    throw error instanceof CommandError ? lockFailure(error, path, owner) : error;
  }
  return { path, relaysDir, release: () => lock.close() };
}

function lockFailure(error: CommandError, path: string, owner: string): ArcaError {
  if (error.failure === 'not-found') {
    return new ArcaError('command-missing', `${error.message}; install it: apt-get install util-linux`, {
      cause: error,
    });
  }
  if (error.exitCode !== 1) return new ArcaError('command-failed', error.message, { cause: error });
  return new ArcaError(
    'endpoint-in-use',
    `another arca-control${owner === '' ? '' : ` (process ${owner})`} has the run directory ${path}; ` +
      'stop it, or give this one a --run-dir of its own',
    { cause: error },
  );
}

function unusable(path: string, cause: unknown): ArcaError {
  const said = cause instanceof Error ? cause.message : String(cause);
  const code = ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(cause) ?? '') ? 'permission-denied' : 'endpoint-failed';
  return new ArcaError(code, `the run directory ${path} can not be used: ${said}`, { cause });
}
