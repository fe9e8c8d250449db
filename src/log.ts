/**
 * Log to stderr: events and their fields, never the content of a frame. Units stand in the names of fields.
 */
import { isatty } from 'node:tty';
import type { Logger } from 'pino';
import { openLineWriter } from './line-writer.js';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LogOptions {
  readonly level?: LogLevel | undefined;
  /** Pretty on a terminal, JSON elsewhere, by default. */
  readonly format?: LogFormat | undefined;
  /** Fields of every line, for example the program's name. */
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
}

const STDERR_FD = 2;

/** A logger on stderr that writes each line at once, so that the last words of a process are never lost in a buffer. */
export async function createLogger(options: LogOptions = {}): Promise<Logger> {
  const format = options.format ?? (isatty(STDERR_FD) ? 'pretty' : 'json');
  // Loaded here, and not with this module, so that a program can begin something that takes time before.
  const { pino } = await import('pino');
  // The time that pino-pretty takes to load is paid only by who reads it.
  const prettify = format === 'pretty' ? await loadPrettifier() : undefined;
  const writer = openLineWriter(STDERR_FD);
  return pino(
    {
      level: options.level ?? 'info',
      base: options.fields ?? null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write(line: string) {
        writer.write(prettify === undefined ? line : prettify(line));
      },
    },
  );
}

async function loadPrettifier(): Promise<(line: string) => string> {
  const { prettyFactory } = await import('pino-pretty');
  const format = prettyFactory({ colorize: isatty(STDERR_FD), ignore: 'pid,hostname' });
  // What the prettifier can't read is better shown raw than lost.
  return (line) => format(line) ?? line;
}
