/** Runs one of Debian's tools, and says in the user's words what went wrong. */
import { ArcaError } from '../errors.js';
import { CommandError, type Output, run } from '../exec.js';

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
}

export async function runTool(command: string, args: readonly string[], options: ToolOptions): Promise<Output> {
  try {
    return await run(command, args, options);
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    throw new ArcaError(codeOf(cause), messageOf(cause), { cause });
  }
}

function codeOf(error: CommandError): 'command-missing' | 'timed-out' | 'command-failed' {
  if (error.failure === 'not-found') return 'command-missing';
  return error.failure === 'timed-out' ? 'timed-out' : 'command-failed';
}

function messageOf(error: CommandError): string {
  if (error.failure === 'not-found') return `${error.command} is not installed; scripts/setup installs what is missing`;
  const said = error.output.stderr.trim();
  return said === '' || error.message.includes(said) ? error.message : `${error.message}\n${said}`;
}
