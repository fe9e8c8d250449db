/**
 * packaging/systemd as systemd reads it: systemd-analyze verifies the units, offline, in a root directory of their own,
 * where the programs and Debian's targets stand. It needs no systemd that runs.
 */
import { execFile, execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { scaled } from '../support/time.js';

const UNITS = resolve('packaging/systemd');
const DISTRIBUTION_UNITS = '/lib/systemd/system';
const PROGRAMS = ['arca', 'arca-control', 'arca-relay'];
const CONTROL = 'arca-control.service';
const RELAY = 'arca-relay@.service';
const STATE = 'arca-state.service';
const ALL = [CONTROL, RELAY, STATE];

const hasSystemd = ((): boolean => {
  try {
    execFileSync('systemd-analyze', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

interface Verdict {
  readonly exitCode: number | null;
  readonly said: string;
}

/** Mistakes that it only warns of are mistakes. */
const ACCEPTED: Verdict = { exitCode: 0, said: '' };

describe.skipIf(!hasSystemd)('packaging/systemd (needs systemd-analyze, Debian package systemd)', () => {
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'arca-units-'));
    await mkdir(join(root, 'usr/local/bin'), { recursive: true });
    await mkdir(join(root, 'usr/lib/systemd/system'), { recursive: true });
    await mkdir(join(root, 'etc/systemd/system'), { recursive: true });
    for (const program of PROGRAMS)
      await writeFile(join(root, 'usr/local/bin', program), '#!/bin/sh\n', { mode: 0o755 });
    for (const name of await readdir(DISTRIBUTION_UNITS)) {
      if (/\.target$|^(openvswitch|ovs|ovn)/.test(name)) {
        await cp(join(DISTRIBUTION_UNITS, name), join(root, 'usr/lib/systemd/system', name), { dereference: true });
      }
    }
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  function run(command: string, args: readonly string[]): Promise<Verdict> {
    return new Promise((done) => {
      const child = execFile(command, args, { timeout: scaled(4_000) }, (_error, stdout, stderr) =>
        done({ exitCode: child.exitCode, said: (stdout + stderr).replaceAll(root, '') }),
      );
    });
  }

  /** What systemd says of a unit of ours, changed or as it is. */
  async function verify(name: string, change: (text: string) => string = (text) => text): Promise<Verdict> {
    const text = await readFile(join(UNITS, name), 'utf8');
    const changed = change(text);
    const file = join(root, 'etc/systemd/system', name);
    await writeFile(file, changed);
    return run('systemd-analyze', [`--root=${root}`, '--man=no', 'verify', file]);
  }

  it.each(ALL)('%s is a unit without a mistake', async (name) => {
    expect(await verify(name)).toEqual(ACCEPTED);
  });

  it.each([
    ['a word that is none', 'KillMode=process', 'KillMode=proces', 'Failed to parse kill mode'],
    ['a setting that is none', 'RuntimeDirectoryPreserve=', 'RuntimeDirectoryPreserved=', 'Unknown key'],
    ['a program that is missing', '/usr/local/bin/arca-control', '/usr/local/bin/arca-contro', 'is not executable'],
    ['no command', 'ExecStart=', '#', 'Unit arca-control.service has a bad unit file setting'],
    ['a socket family that is none', 'AF_VSOCK', 'AF_VSCK', 'Failed to parse address family'],
    ['a group of system calls that is none', '@system-service', '@system-servic', 'Unknown system call group'],
    ['a section that is none', '[Service]', '[Servise]', 'Unknown section'],
  ])('%s is refused: the check sees what it is for', async (_what, from, to, says) => {
    const verdict = await verify(CONTROL, (text) => {
      expect(text).toContain(from);
      return text.replace(from, to);
    });
    expect(verdict).not.toEqual(ACCEPTED);
    expect(verdict.said).toContain(says);
  });

  it('names capabilities that there are, which systemd-analyze does not look at', async () => {
    const { said } = await run('systemd-analyze', ['--no-pager', 'capability']);
    const known = [...said.matchAll(/^(cap_\w+)/gm)].map(([, name = '']) => name.toUpperCase());
    for (const unit of ALL) {
      const text = await readFile(join(UNITS, unit), 'utf8');
      const bound = /^CapabilityBoundingSet=(.*)$/m.exec(text)?.[1]?.split(' ') ?? [];
      expect(bound).toContain('CAP_NET_ADMIN');
      for (const capability of bound) expect(known).toContain(capability);
    }
  });

  it.each(ALL)('%s is open no further than it needs', async (name) => {
    const most = '--threshold=35'; // tenths; a service without any of it has 96
    const { exitCode, said } = await run('systemd-analyze', [
      ...['--no-pager', '--offline=true', most, 'security'],
      join(UNITS, name),
    ]);
    expect({ exitCode, said: exitCode === 0 ? '' : said }).toEqual(ACCEPTED);
  });

  it('units wait for services by the names that Debian gives them', async () => {
    const there = await readdir(join(root, 'usr/lib/systemd/system'));
    if (!there.some((name) => name.startsWith('ovn-'))) return;
    for (const unit of ALL) {
      const text = await readFile(join(UNITS, unit), 'utf8');
      const named = [...text.matchAll(/^(?:After|Wants)=(.*)$/gm)].flatMap(([, names = '']) => names.split(' '));
      expect(named.length).toBeGreaterThan(3);
      for (const name of named) expect(there).toContain(name);
    }
  });

  it('relays outlive arca-control: their unit does not end them', async () => {
    const text = await readFile(join(UNITS, CONTROL), 'utf8');
    for (const line of ['KillMode=process', 'OOMPolicy=continue', 'RuntimeDirectoryPreserve=yes']) {
      expect(text.split('\n')).toContain(line);
    }
  });

  it('arca-state comes after OVS and before whoever waits for the network, and its DHCP clients outlive it', async () => {
    const lines = (await readFile(join(UNITS, STATE), 'utf8')).split('\n');
    expect(lines).toContain('After=openvswitch-switch.service ovsdb-server.service ovs-vswitchd.service');
    for (const line of ['Before=network-online.target', 'KillMode=process', 'Type=notify'])
      expect(lines).toContain(line);
    const never = lines.find((line) => line.startsWith('RestartPreventExitStatus='))?.split('=')[1];
    const codes = (['usage', 'state-invalid', 'state-foreign', 'flow-invalid'] as const).map(
      (code) => ERROR_KINDS[code],
    );
    expect(never).toBe(codes.map(({ exitCode }) => exitCode).join(' '));
  });

  it('arca.sysusers makes the group, and one with a mistake does not', async () => {
    const file = join(UNITS, 'arca.sysusers');
    await mkdir(join(root, 'etc'), { recursive: true });
    expect(await run('systemd-sysusers', [`--root=${root}`, file])).toMatchObject({ exitCode: 0 });
    expect(await readFile(join(root, 'etc/group'), 'utf8')).toMatch(/^arca:x:\d+:$/m);

    const broken = join(root, basename(file));
    await writeFile(broken, (await readFile(file, 'utf8')).replace(/^g arca/m, 'q arca'));
    const verdict = await run('systemd-sysusers', [`--root=${root}`, broken]);
    expect(verdict.exitCode).not.toBe(0);
    expect(verdict.said).toContain('Unknown command type');
  });
});
