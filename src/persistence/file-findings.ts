/** What is to be said about the file in which the running server keeps the database. */
import { existsSync, type Stats } from 'node:fs';
import { realpath, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Finding, Verdict } from '../finding.js';
import { mountOf, survivalOf } from './mounts.js';
import type { ProbeResult } from './probe.js';
import { type DatabaseFile, rootedPath, statOf } from './server.js';

const TITLES = {
  'database-file': 'file of the database',
  'database-file-system': 'file system below it',
  'database-permissions': 'owner and mode',
  'database-writable': 'room to write',
  'database-path': 'configured path',
  'database-probe': 'probe through the server',
} as const;

type Say = (id: keyof typeof TITLES, verdict: Verdict, evidence: string, mend?: string) => Finding;

const MOVE_MEND = 'arca persistence setup --database /var/lib/openvswitch/conf.db, then restart ovsdb-server';
const WRITABLE_BY_GROUP = 0o020;
const WRITABLE_BY_ALL = 0o002;
const READABLE_BY_ALL = 0o004;
const STICKY = 0o1000;
/** A compaction writes the database anew, beside the old one. */
const LEAST_FREE_FACTOR = 2;

export async function judgeFile(
  file: DatabaseFile,
  probe: ProbeResult,
  expectedPath: string | undefined,
): Promise<Finding[]> {
  const say: Say = (id, verdict, evidence, mend) => ({
    ...{ id, title: TITLES[id], verdict, subject: file.path, evidence },
    ...(mend && { mend }),
  });
  return [
    judgeIdentity(file, say),
    judgeFileSystem(file, say),
    await judgePermissions(file, say),
    await judgeRoom(file, say),
    ...(expectedPath === undefined ? [] : [await judgePath(file, expectedPath, say)]),
    judgeProbe(probe, say),
  ];
}

function judgeIdentity({ pid, open, there }: DatabaseFile, say: Say): Finding {
  const server = `ovsdb-server (process ${pid})`;
  const mend =
    'keep what the server holds with `ovsdb-client backup >FILE`, put that file there, and restart ovsdb-server';
  if (there === undefined) return say('database-file', 'problem', `${server} writes to a file that was deleted`, mend);
  if (!isSame(open, there)) {
    return say('database-file', 'problem', `${server} writes to another file than the one that is there now`, mend);
  }
  return say('database-file', 'ok', `${server} has it open`);
}

function isSame(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

function judgeFileSystem({ pid, mount, mounts }: DatabaseFile, say: Say): Finding {
  if (mount === undefined) {
    return say('database-file-system', 'unknown', 'the mount through which the server opened it is gone');
  }
  const { survives, why } = survivalOf(mounts, mount, (directory) => existsSync(rootedPath(pid, directory)));
  switch (survives) {
    case true:
      return say('database-file-system', 'ok', why);
    case false:
      return say('database-file-system', 'problem', `${why}: a reboot empties it`, MOVE_MEND);
    case undefined:
      return say('database-file-system', 'unknown', why);
  }
}

/** Whoever may change the file, or put another one in its place, decides what the switch does. */
async function judgePermissions({ pid, uid, path, there }: DatabaseFile, say: Say): Promise<Finding> {
  const folder = await statOf(rootedPath(pid, dirname(path)));
  if (there === undefined || folder === undefined) {
    return say('database-permissions', 'unknown', 'the file is not there any more');
  }
  const folderPath = dirname(path);
  const seen = `user ${there.uid}, mode ${octal(there.mode)}; ${folderPath}: user ${folder.uid}, mode ${octal(folder.mode)}`;
  const isTrusted = (owner: number): boolean => owner === 0 || owner === uid;
  const problem = (evidence: string, mend: string): Finding =>
    say('database-permissions', 'problem', `${evidence} (${seen})`, mend);
  if (!isTrusted(there.uid))
    return problem(`neither root nor the server's user ${uid} owns it`, `chown ${uid} ${path}`);
  if (!isTrusted(folder.uid)) {
    return problem(`neither root nor the server's user ${uid} owns its folder`, `chown ${uid} ${folderPath}`);
  }
  if (uid !== 0 && there.uid !== uid && (there.mode & WRITABLE_BY_GROUP) === 0) {
    return problem(`the server's user ${uid} may not write to it when it opens it again`, `chown ${uid} ${path}`);
  }
  if ((there.mode & WRITABLE_BY_ALL) !== 0) return problem('everybody may change it', `chmod 640 ${path}`);
  if ((folder.mode & WRITABLE_BY_ALL) !== 0 && (folder.mode & STICKY) === 0) {
    return problem('everybody may put another file in its place', `chmod 755 ${folderPath}`);
  }
  if ((there.mode & READABLE_BY_ALL) !== 0) {
    return say('database-permissions', 'note', `everybody may read it (${seen})`, `chmod 640 ${path}`);
  }
  return say('database-permissions', 'ok', seen);
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

async function judgeRoom({ pid, path, open, mounts }: DatabaseFile, say: Say): Promise<Finding> {
  const folder = rootedPath(pid, dirname(path));
  const at = mountOf(mounts, path);
  if (at?.isReadOnly) {
    const evidence = `${at.type} on ${at.mountPoint} is read-only: a server that starts now can not write to it`;
    return say('database-writable', 'problem', evidence, `mount -o remount,rw ${at.mountPoint}`);
  }
  if ((await statOf(folder)) === undefined)
    return say('database-writable', 'unknown', 'its folder is not there any more');
  const { blocks, bavail, bsize } = await statfs(folder);
  // ramfs and the like tell no size.
  if (blocks === 0) return say('database-writable', 'ok', 'its file system has no bounds of its own');
  const freeBytes = bavail * bsize;
  const seen = `${Math.floor(freeBytes / 1024)} KB are free, the file has ${Math.ceil(open.size / 1024)} KB`;
  if (freeBytes >= open.size * LEAST_FREE_FACTOR) return say('database-writable', 'ok', seen);
  return say(
    'database-writable',
    freeBytes === 0 ? 'problem' : 'warning',
    `${seen}, and the server writes it anew when it compacts it`,
    `make room on the file system of ${dirname(path)}`,
  );
}

async function judgePath({ pid, there }: DatabaseFile, expected: string, say: Say): Promise<Finding> {
  const wanted = await stat(rootedPath(pid, expected)).catch(() => undefined);
  const mend = `arca persistence setup --database ${expected}, or correct the path`;
  if (wanted === undefined)
    return say('database-path', 'problem', `it should be ${expected}, which is not there`, mend);
  if (there === undefined || !isSame(there, wanted)) {
    return say('database-path', 'problem', `it should be ${expected}, which is another file`, mend);
  }
  const real = await realpath(expected).catch(() => expected);
  return say('database-path', 'ok', real === expected ? `it is ${expected}` : `${expected} leads to ${real}`);
}

function judgeProbe({ isInFile, text }: ProbeResult, say: Say): Finding {
  switch (isInFile) {
    case true:
      return say('database-probe', 'ok', text);
    case false:
      return say(
        'database-probe',
        'problem',
        text,
        'restart ovsdb-server with the right file; keep what it holds with `ovsdb-client backup`',
      );
    case undefined:
      return say('database-probe', 'unknown', text);
  }
}
