/**
 * Which process answers on ovsdb-server's socket, and which file it keeps the database in. The server itself tells no
 * more than the database's name (`ovsdb-server/list-dbs`), so this is read from /proc: who listens on the socket, and
 * which of its open files begins as that database's log does.
 */
import type { Stats } from 'node:fs';
import { open, readdir, readFile, readlink, realpath, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { errnoOf } from '../errors.js';
import { findProcesses } from '../processes.js';
import { type Mount, parseMountinfo } from './mounts.js';

export interface DatabaseFile {
  readonly pid: number;
  /** Effective user of the server. */
  readonly uid: number;
  /** Where the server opened it, with symbolic links followed. */
  readonly path: string;
  /** Of the file that the server has open, whatever is at `path` now. */
  readonly open: Stats;
  /** What is at `path` now. */
  readonly there: Stats | undefined;
  /** The mount through which the server opened it. */
  readonly mount: Mount | undefined;
  /** All mounts that the server sees. */
  readonly mounts: readonly Mount[];
}

const DELETED = ' (deleted)';
/** A database's schema is a few dozen KB. */
const MOST_HEADER_BYTES = 4 * 1024 * 1024;
/** __SO_ACCEPTCON in the flags of /proc/net/unix. */
const LISTENS = 0x10000;

/** The servers that listen on the socket. More than one: an older one whose socket was replaced, and that still runs. */
export async function findServers(socketPath: string): Promise<number[]> {
  const wanted = await realpath(socketPath).catch(() => socketPath);
  const servers = await findProcesses(([command = '']) => basename(command) === 'ovsdb-server');
  const listening: number[] = [];
  for (const { pid } of servers) if (await listensOn(pid, wanted)) listening.push(pid);
  return listening;
}

async function listensOn(pid: number, wanted: string): Promise<boolean> {
  // Names of sockets are seen only in the network namespace where they were bound: the process's own.
  const table = await readFile(`/proc/${pid}/net/unix`, 'utf8').catch(() => '');
  const inodes = new Set<string>();
  for (const { inode, path } of parseListeners(table)) {
    const absolute = resolve(await readlink(`/proc/${pid}/cwd`).catch(() => '/'), path);
    if ((await realpath(absolute).catch(() => absolute)) === wanted) inodes.add(inode);
  }
  if (inodes.size === 0) return false;
  const targets = await Promise.all((await descriptors(pid)).map(async (fd) => readlink(fd).catch(() => '')));
  return targets.some((target) => inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? ''));
}

export function parseListeners(table: string): { readonly inode: string; readonly path: string }[] {
  return table.split('\n').flatMap((line) => {
    const match = /^\S+ \S+ \S+ ([0-9A-F]{8}) \S+ \S+ +(\d+) (.+)$/.exec(line);
    const [, flags = '', inode, path] = match ?? [];
    if (inode === undefined || path === undefined || (Number.parseInt(flags, 16) & LISTENS) === 0) return [];
    return [{ inode, path }];
  });
}

/** The file in which that process keeps the database; nothing when it has none open. Rejects when it may not be looked at. */
export async function findDatabaseFile(pid: number, database: string): Promise<DatabaseFile | undefined> {
  const mounts = parseMountinfo(await readFile(`/proc/${pid}/mountinfo`, 'utf8'));
  for (const descriptor of await readdir(`/proc/${pid}/fd`)) {
    const fd = `/proc/${pid}/fd/${descriptor}`;
    const opened = await stat(fd).catch(() => undefined);
    if (!opened?.isFile() || (await databaseIn(fd)) !== database) continue;
    const target = await readlink(fd);
    const path = target.endsWith(DELETED) ? target.slice(0, -DELETED.length) : target;
    const [info, status] = await Promise.all([
      readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8'),
      readFile(`/proc/${pid}/status`, 'utf8'),
    ]);
    const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
    return {
      pid,
      uid: Number(/^Uid:\s*\d+\s+(\d+)/m.exec(status)?.[1]),
      path,
      open: opened,
      there: await statOf(rootedPath(pid, path)),
      mount: mounts.find(({ id }) => id === mountId),
      mounts,
    };
  }
  return undefined;
}

/** A path as that process sees it, which may have another root and other mounts than we. */
export function rootedPath(pid: number, path: string): string {
  return `/proc/${pid}/root${path}`;
}

export async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function descriptors(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  return names.map((name) => `/proc/${pid}/fd/${name}`);
}

/** The name of the database in a log file: its first record is a schema, or the header of a cluster's member (ovsdb(5)). */
async function databaseIn(path: string): Promise<string | undefined> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const start = Buffer.alloc(128);
    const { bytesRead } = await file.read(start, 0, start.length, 0);
    const line = start.toString('latin1', 0, bytesRead).split('\n', 1)[0] ?? '';
    const sizeBytes = Number(/^OVSDB (?:JSON|CLUSTER) (\d+) [0-9a-f]{40}$/.exec(line)?.[1]);
    if (!(sizeBytes > 0 && sizeBytes <= MOST_HEADER_BYTES)) return undefined;
    const record = Buffer.alloc(sizeBytes);
    await file.read(record, 0, sizeBytes, line.length + 1);
    const { name } = JSON.parse(record.toString('utf8')) as { readonly name?: unknown };
    return typeof name === 'string' ? name : undefined;
  } catch {
    // Cut short, or something else that only begins like one.
    return undefined;
  } finally {
    await file.close();
  }
}
