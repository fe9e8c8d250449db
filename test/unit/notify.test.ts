import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openLineWriter } from '../../src/line-writer.js';
import { createLogger, type Logger } from '../../src/log.js';
import { createNotifier, type RelayEvent, systemdState } from '../../src/relay/notify.js';

const STOPPED: RelayEvent = { event: 'stopped', reason: 'SIGTERM' };
const READY: RelayEvent = {
  event: 'ready',
  ...{ tap: 'tap0', ifindex: 7, tag: 100, bridge: 'br-int', ofport: 40000, role: 'listen', endpoint: 'vsock:5555' },
  ...{ mtu: 1500, datapathType: 'netdev', pid: 1 },
};
const PIPE_BYTES = 65536;

let folder: string;
let log: Logger & { warn: ReturnType<typeof vi.fn> };
const open: number[] = [];
const children: ChildProcess[] = [];

/** A FIFO, which is what a shell's `3>` and most parents give: both ends in this process. */
function pipe(): { readonly reader: number; readonly writer: number } {
  const path = join(folder, `fifo-${open.length}`);
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  open.push(reader, writer);
  return { reader, writer };
}

function readAll(fd: number): string {
  const chunks: Buffer[] = [];
  const chunk = Buffer.alloc(PIPE_BYTES);
  try {
    for (let size = readSync(fd, chunk); size > 0; size = readSync(fd, chunk)) {
      chunks.push(Buffer.from(chunk.subarray(0, size)));
    }
  } catch {
    // EAGAIN: empty.
  }
  return Buffer.concat(chunks).toString();
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  log = Object.assign(await createLogger({ level: 'silent' }), { warn: vi.fn() });
});

afterEach(() => {
  for (const fd of open.splice(0)) {
    try {
      closeSync(fd);
    } catch {
      // A test closed it.
    }
  }
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

describe('openLineWriter', () => {
  it('writes each line at once', () => {
    const { reader, writer } = pipe();
    const lines = openLineWriter(writer);
    expect(lines.write('one\n')).toBe(true);
    expect(readAll(reader)).toBe('one\n');
    lines.close();
  });

  it('drops lines when the pipe is full, whole ones only, and goes on when it is read again', () => {
    const { reader, writer } = pipe();
    const lines = openLineWriter(writer);
    const line = `${'x'.repeat(999)}\n`;
    let written = 0;
    while (lines.write(line)) written++;
    expect(written).toBeGreaterThanOrEqual(Math.floor(PIPE_BYTES / 4096));
    expect(lines.write(line)).toBe(false);
    expect(readAll(reader)).toBe(line.repeat(written));
    expect(lines.write('again\n')).toBe(true);
    expect(readAll(reader)).toBe('again\n');
    lines.close();
  });

  it('does not make the descriptor of others non-blocking', () => {
    const { writer } = pipe();
    const flagsOf = (): string => readFileSync(`/proc/self/fdinfo/${writer}`, 'utf8');
    const before = flagsOf();
    const lines = openLineWriter(writer);
    lines.write('x\n');
    expect(flagsOf()).toBe(before);
    lines.close();
  });

  it('survives a reader that is gone', () => {
    const { reader, writer } = pipe();
    const lines = openLineWriter(writer);
    closeSync(reader);
    expect(lines.write('x\n')).toBe(false);
    expect(lines.write('x\n')).toBe(false);
    lines.close();
  });

  it('appends to a file', () => {
    const path = join(folder, 'file');
    const fd = openSync(path, 'w');
    open.push(fd);
    writeSync(fd, 'before\n');
    const lines = openLineWriter(fd);
    expect(lines.write('x\n')).toBe(true);
    expect(readFileSync(path, 'utf8')).toBe('before\nx\n');
  });

  it("writes to the socket pair that Node's spawn gives, bounded while nobody reads", async () => {
    // Only a process that Node started has such a descriptor, and it must not be this one: so the module is compiled.
    const compiler = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--outDir', `${folder}/dist`];
    execFileSync(process.execPath, compiler);
    writeFileSync(`${folder}/package.json`, '{"type":"module"}');
    const script = `
      import { openLineWriter } from './dist/line-writer.js';
      const lines = openLineWriter(3);
      let written = 0;
      while (lines.write('x'.repeat(999) + '\\n')) written++;
      console.log(written);
      process.exit(0);`;
    writeFileSync(`${folder}/child.js`, script);
    const child = spawn(process.execPath, [`${folder}/child.js`], { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] });
    children.push(child);
    const printed = await new Promise<string>((resolve) => child.stdout?.once('data', (data) => resolve(String(data))));
    expect(Number(printed)).toBeGreaterThan(50);
  });

  it('says that a descriptor is not open', () => {
    expect(() => openLineWriter(9999)).toThrow(/EBADF/);
  });
});

describe('createNotifier', () => {
  it('writes one JSON line for each event', () => {
    const { reader, writer } = pipe();
    const notifier = createNotifier({ fd: writer, systemd: undefined, log });
    notifier.emit({ event: 'starting', step: 'tag' });
    notifier.emit(READY);
    const lines = readAll(reader).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual([{ event: 'starting', step: 'tag' }, READY]);
    notifier.close();
  });

  it('says once in the log that nobody reads', () => {
    const { reader, writer } = pipe();
    const notifier = createNotifier({ fd: writer, systemd: undefined, log });
    closeSync(reader);
    notifier.emit(STOPPED);
    notifier.emit(STOPPED);
    expect(log.warn).toHaveBeenCalledTimes(1);
    notifier.close();
  });

  it('refuses a descriptor that is not open, as a usage error', () => {
    expect(() => createNotifier({ fd: 9999, systemd: undefined, log })).toThrow(
      expect.objectContaining({ code: 'usage' }),
    );
  });

  it('refuses the descriptors that Node has for itself', () => {
    const own = readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith('anon_inode:');
      } catch {
        return false;
      }
    });
    expect(own).not.toHaveLength(0);
    for (const fd of own) {
      expect(() => createNotifier({ fd: Number(fd), systemd: undefined, log })).toThrow(
        expect.objectContaining({ code: 'usage' }),
      );
    }
  });

  it('tells systemd, and survives that it does not listen', () => {
    const send = vi.fn();
    const notifier = createNotifier({ fd: undefined, systemd: { socket: '@x', send }, log });
    notifier.emit(READY);
    expect(send).toHaveBeenCalledWith('@x', expect.stringMatching(/^READY=1\nSTATUS=Ready: tap0 on br-int, VLAN 100/));
    send.mockImplementation(() => {
      throw new Error('EAGAIN');
    });
    notifier.emit(STOPPED);
    notifier.emit(STOPPED);
    expect(log.warn).toHaveBeenCalledTimes(1);
  });
});

describe('systemdState', () => {
  it('tells the states that systemd knows', () => {
    expect(systemdState({ event: 'stopping', reason: 'SIGTERM' })).toMatch(/^STOPPING=1\n/);
    expect(systemdState({ event: 'degraded', reason: 'ovs-vswitchd-gone', detail: 'd' })).toBe(
      'STATUS=Degraded: ovs-vswitchd-gone',
    );
    expect(systemdState({ event: 'failed', code: 'usage', message: 'a\nREADY=1', exitCode: 2 })).toBe(
      'STATUS=Failed: a READY=1',
    );
  });
});
