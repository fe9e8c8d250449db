/**
 * How the programs read what is given on their command lines, as text: numbers with bounds, choices, paths of sockets.
 * Pure. Each throws an ArcaError (`usage`) that names the option.
 */
import { ArcaError } from './errors.js';

/** sockaddr_un.sun_path, less its final zero; unix(7). */
const LONGEST_SOCKET_PATH = 107;
const MOST_TIMEOUT_SECONDS = 3600;

/** For `--help`; src/ovsdb/remote.ts reads it. */
export const REMOTES_FORM = 'unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT; of a cluster several, with commas';

export function readNumber(option: string, text: string, least: number, most: number): number {
  const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw usage(`${option}: '${text}' is no number from ${least} to ${most}`);
}

export function readChoice<const Choice extends string>(
  option: string,
  text: string,
  choices: readonly Choice[],
): Choice {
  const choice = choices.find((candidate) => candidate === text);
  if (choice !== undefined) return choice;
  throw usage(`${option}: '${text}' is none of ${choices.join(', ')}`);
}

export function usage(message: string, cause?: unknown): ArcaError {
  return new ArcaError('usage', message, { cause });
}

/** Bridges are devices too, and their names are parts of paths and arguments of ovs-vsctl. */
export function readBridge(option: string, name: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.:@-]*$/.test(name)) return name;
  throw usage(`${option}: '${name}' is no name of an OVS bridge`);
}

/** Seconds, as milliseconds. */
export function readTimeout(option: string, text: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds > 0 && seconds <= MOST_TIMEOUT_SECONDS) return Math.max(1, Math.round(seconds * 1000));
  throw usage(`${option}: '${text}' is no number of seconds, more than 0 and at most ${MOST_TIMEOUT_SECONDS}`);
}

/** `unix:PATH`; gives the path. */
export function readUnixTarget(option: string, text: string): string {
  const path = text.startsWith('unix:') ? text.slice('unix:'.length) : '';
  if (path === '') throw usage(`${option}: '${text}' is not unix:PATH`);
  return checkSocketPath(option, path);
}

export function checkSocketPath(option: string, path: string): string {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return path;
  throw usage(`${option}: the path is longer than ${LONGEST_SOCKET_PATH} bytes, the most that unix(7) takes: ${path}`);
}
