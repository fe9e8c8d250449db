/** How the bench ends. Scripts branch on the exit code. */
export const EXIT = {
  /** Measured; the table says what was reached and what was missed. */
  done: 0,
  failed: 1,
  usage: 2,
  /** Measured, but too noisy for a conclusion. */
  noisy: 3,
} as const;

export class BenchError extends Error {
  readonly exitCode: number;

  constructor(message: string, options?: { readonly cause?: unknown; readonly exitCode?: number }) {
    super(message, options);
    this.name = 'BenchError';
    this.exitCode = options?.exitCode ?? EXIT.failed;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
