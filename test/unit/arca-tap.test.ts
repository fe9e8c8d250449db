/** arca-tap by itself: its command line, its errors, what it is made of, and its life with a scripted relay. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Background, startInBackground } from '../support/background.js';
import { eventually, scaled, within } from '../support/time.js';
import {
  CONTROL,
  createRecordParser,
  decodeControl,
  encodeControl,
  encodeHello,
  encodeRecord,
  FRAME,
} from '../support/wire.js';

const PROGRAM = path.resolve('build/Release/arca-tap');
const MIB = 1024 * 1024;
const isRoot = process.getuid?.() === 0;
const TIMEOUT_MS = scaled(30_000);

interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], wrapper: readonly string[] = []): Promise<Outcome> {
  const [command = PROGRAM, ...rest] = [...wrapper, PROGRAM, ...args];
  return new Promise((resolve) => {
    const child = execFile(command, rest, { timeout: scaled(10_000), killSignal: 'SIGKILL' }, (_, stdout, stderr) =>
      resolve({ exitCode: child.exitCode, stdout, stderr }),
    );
  });
}

describe('arca-tap: the command line', () => {
  it('--help tells every option, the exit codes and examples', async () => {
    const { exitCode, stdout, stderr } = await run(['--help']);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    const options =
      '--connect --listen --peer-cid --once --tap --netns --mac --address --gateway --mtu --burst --quiet';
    for (const option of options.split(' ')) expect(stdout).toContain(option);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('--version is that of the package', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect(await run(['--version'])).toEqual({ exitCode: 0, stdout: `arca-tap ${version}\n`, stderr: '' });
  });

  const to = ['--connect', 'unix:/nonexistent/s'];
  const wrong: [args: string[], says: string][] = [
    [[], 'give one of --connect and --listen'],
    [[...to, '--listen', 'unix:/x'], 'give one of --connect and --listen'],
    [[...to, 'extra'], "'extra' is not expected here"],
    [['--nonsense'], 'nonsense'],
    [['--connect'], 'requires an argument'],
    [['--connect', 'tcp:1:2'], "--connect: 'tcp:1:2' is neither vsock:[CID:]PORT nor unix:PATH"],
    [['--connect', 'vsock:2:0'], '--connect: '],
    [['--connect', 'vsock:5555'], '--connect wants a CID'],
    [['--connect', `unix:${'x'.repeat(108)}`], 'longer than 107 bytes'],
    [['--listen', 'unix:'], '--listen: '],
    [['--listen', 'vsock:x:5'], '--listen: '],
    [[...to, '--peer-cid', '3'], '--peer-cid goes with --listen vsock:...'],
    [['--listen', 'unix:/x', '--peer-cid', '3'], '--peer-cid goes with --listen vsock:...'],
    [['--listen', 'vsock:5', '--peer-cid', '4294967295'], "--peer-cid: '4294967295' is no CID"],
    [['--listen', 'vsock:5', '--peer-cid', '-1'], "--peer-cid: '-1' is no CID"],
    [['--listen', 'unix:/x', '--once'], '--once goes with --connect'],
    [[...to, '--once=yes'], "doesn't allow an argument"],
    [[...to, '--tap', ''], "--tap: '' is no interface name"],
    [[...to, '--tap', 'sixteen-bytes-xy'], '--tap: '],
    [[...to, '--tap', 'a/b'], '--tap: '],
    [[...to, '--tap', 'tap%d'], '--tap: '],
    [[...to, '--tap', 'a b'], '--tap: '],
    [[...to, '--tap', '..'], '--tap: '],
    [[...to, '--netns', ''], '--netns: '],
    [[...to, '--mac', '01:00:00:00:00:01'], "--mac: '01:00:00:00:00:01' is no unicast MAC"],
    [[...to, '--mac', '2:0:0:0:0:1'], '--mac: '],
    [[...to, '--address', '10.9.0.2'], "--address: '10.9.0.2' is no CIDR"],
    [[...to, '--address', '10.9.0.2/33'], '--address: '],
    [[...to, '--gateway', '10.9.0.0/24'], "--gateway: '10.9.0.0/24' is no IP address"],
    [[...to, '--gateway', '10.9.0.1', '--gateway', '10.9.0.2'], '--gateway: one for each of IPv4 and IPv6'],
    [[...to, '--mtu', '67'], "--mtu: '67' is not 68 to 65521"],
    [[...to, '--mtu', '65522'], '--mtu: '],
    [[...to, '--mtu', '1500x'], '--mtu: '],
    [[...to, '--mtu', '99999999999999999999'], '--mtu: '],
    [[...to, '--burst', '0'], "--burst: '0' is not 1 to 262144"],
    [[...to, '--burst', '262145'], '--burst: '],
  ];
  it.each(wrong)('%j exits with 2 and says why', async (args, says) => {
    const { exitCode, stdout, stderr } = await run(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    const [reason, hint, ...rest] = stderr.split('\n');
    expect(reason).toMatch(/arca-tap: /);
    expect(reason).toContain(says);
    expect([hint, ...rest]).toEqual(["Try 'arca-tap --help'.", '']);
  });
});

describe('arca-tap: the executable', () => {
  it('is under 2 MB', async () => {
    expect((await stat(PROGRAM)).size).toBeLessThan(2 * MIB);
  });

  it('is static: it asks for no interpreter and no library', async () => {
    const PT_DYNAMIC = 2;
    const PT_INTERP = 3;
    const elf = await readFile(PROGRAM);
    expect(elf.subarray(0, 5)).toEqual(Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2])); // 64 bits
    const at = Number(elf.readBigUInt64LE(0x20));
    const size = elf.readUInt16LE(0x36);
    const types = Array.from({ length: elf.readUInt16LE(0x38) }, (_, i) => elf.readUInt32LE(at + i * size));
    expect(types.length).toBeGreaterThan(0);
    expect(types).not.toContain(PT_INTERP);
    expect(types).not.toContain(PT_DYNAMIC);
  });
});

describe.skipIf(!isRoot)(
  'arca-tap: errors (needs root for TAPs and network namespaces)',
  { timeout: TIMEOUT_MS },
  () => {
    const to = ['--connect', 'unix:/nonexistent/s', '--once'];

    it.each([
      [['--netns', 'no-such-namespace'], "network namespace 'no-such-namespace'"],
      [['--netns', '/nonexistent/ns'], "network namespace '/nonexistent/ns'"],
      [['--netns', '/dev/null'], "network namespace '/dev/null'"],
    ])('%j names the namespace', async (args, says) => {
      const { exitCode, stderr } = await run([...to, ...args]);
      expect(exitCode).toBe(1);
      expect(stderr).toContain(says);
      expect(stderr.split('\n')).toHaveLength(2);
    });

    it('an interface that exists: what to do', async () => {
      expect(await run([...to, '--tap', 'lo'], ['unshare', '--net'])).toEqual({
        exitCode: 1,
        stdout: '',
        stderr:
          "arca-tap: can't make interface lo: ioctl(TUNSETIFF): Device or resource busy (an interface of that name exists: " +
          "choose another with --tap, or remove it with 'ip link del')\n",
      });
    });

    it.each([
      ['net_admin', [], 'CAP_NET_ADMIN'],
      ['sys_admin', ['--netns', '/proc/self/ns/net'], 'CAP_SYS_ADMIN'],
    ])('without %s: which capability is missing', async (capability, args, says) => {
      const drop = ['setpriv', `--bounding-set=-${capability}`, `--inh-caps=-${capability}`];
      const { exitCode, stderr } = await run([...to, ...args], ['unshare', '--net', ...drop]);
      expect(exitCode).toBe(1);
      expect(stderr).toContain(`Operation not permitted (needs ${says})\n`);
    });

    it('--once: 1 when nobody is there', async () => {
      expect(await run([...to, '--tap', 'eth0'], ['unshare', '--net'])).toEqual({
        exitCode: 1,
        stdout: '',
        stderr: "arca-tap: can't connect to unix:/nonexistent/s: connect: No such file or directory\n",
      });
    });

    it('--listen where it can not be', async () => {
      const { exitCode, stderr } = await run(['--listen', 'unix:/nonexistent/s'], ['unshare', '--net']);
      expect({ exitCode, stderr }).toEqual({
        exitCode: 1,
        stderr: "arca-tap: can't listen on unix:/nonexistent/s: bind: No such file or directory\n",
      });
    });
  },
);

describe.skipIf(!isRoot)(
  'arca-tap: its life (needs root for TAPs and network namespaces)',
  { timeout: TIMEOUT_MS },
  () => {
    let scratch: string;
    let socketPath: string;
    let server: Server;
    let sockets: Socket[];
    let waiting: ((socket: Socket) => void)[];
    let running: Background[];

    beforeEach(async () => {
      scratch = await mkdtemp(path.join(tmpdir(), 'arca-tap-'));
      socketPath = path.join(scratch, 's');
      sockets = [];
      waiting = [];
      running = [];
      server = createServer((socket) => {
        socket.on('error', () => {});
        const next = waiting.shift();
        if (next) next(socket);
        else sockets.push(socket);
      });
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    });
    afterEach(async () => {
      for (const each of running) await each.destroy();
      for (const socket of sockets) socket.destroy();
      server.close();
      await rm(scratch, { recursive: true, force: true });
    });

    function accepted(): Promise<Socket> {
      const socket = sockets.shift();
      return socket ? Promise.resolve(socket) : new Promise((resolve) => waiting.push(resolve));
    }

    /** `unshare` becomes the program: the process is arca-tap itself, in a network namespace of its own. */
    function start(...args: string[]): Background {
      const background = startInBackground('unshare', ['--net', PROGRAM, '--connect', `unix:${socketPath}`, ...args]);
      running.push(background);
      return background;
    }

    async function ip(pid: number, ...args: string[]): Promise<string> {
      return new Promise((resolve, reject) => {
        execFile('nsenter', ['-t', String(pid), '-n', 'ip', ...args], (error, stdout) =>
          error ? reject(error) : resolve(stdout),
        );
      });
    }

    async function isRunningLink(pid: number, name: string): Promise<boolean> {
      return !(await ip(pid, 'link', 'show', name)).includes('NO-CARRIER');
    }

    function hello(socket: Socket, fields: Parameters<typeof encodeHello>[0]): void {
      socket.write(encodeRecord(FRAME, encodeHello({ nonce: 7n, ...fields })));
    }

    it('takes under 4 MB while connected', async () => {
      const tap = start();
      const socket = await accepted();
      hello(socket, { interfaceAddresses: ['10.9.0.2/24'] });
      socket.write(encodeRecord(FRAME, new Uint8Array(1514).fill(2)));
      await tap.stderr.waitFor(/address 10.9.0.2/);
      const status = await readFile(`/proc/${tap.pid}/status`, 'utf8');
      const rssKib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
      expect(rssKib).toBeGreaterThan(0);
      expect(rssKib).toBeLessThan(4 * 1024);
    });

    it('makes the interface as the relay tells, and keeps what the command line fixed', async () => {
      const tap = start('--tap', 'net0', '--mtu', '1400', '--gateway', '10.9.0.254');
      hello(await accepted(), {
        interfaceMac: '02:00:00:00:00:07',
        interfaceMtu: 1300,
        interfaceAddresses: ['10.9.0.2/24', 'fd00::2/64'],
        interfaceGateways: ['10.9.0.1', 'fd00::1'],
        interfaceDns: ['10.9.0.53'],
      });
      await tap.stderr.waitFor(/name server 10.9.0.53/);
      const [link] = JSON.parse(await ip(tap.pid, '-j', 'addr', 'show', 'net0'));
      expect(link).toMatchObject({ address: '02:00:00:00:00:07', mtu: 1400 });
      const addresses = link.addr_info.map(
        ({ local, prefixlen }: { local: string; prefixlen: number }) => `${local}/${prefixlen}`,
      );
      expect(addresses).toEqual(expect.arrayContaining(['10.9.0.2/24', 'fd00::2/64']));
      expect(await ip(tap.pid, 'route', 'show', 'default')).toMatch(/^default via 10\.9\.0\.254 dev net0 /);
    });

    it('follows when the relay comes back and tells other addresses', async () => {
      const tap = start();
      const first = await accepted();
      hello(first, { interfaceAddresses: ['10.9.0.2/24'], interfaceGateways: ['10.9.0.1'] });
      await tap.stderr.waitFor(/address 10\.9\.0\.2/);
      first.destroy();
      const second = await accepted();
      hello(second, { interfaceAddresses: ['10.9.1.2/24'], interfaceGateways: ['10.9.1.1'] });
      await tap.stderr.waitFor(/address 10\.9\.1\.2/);
      const shown = await ip(tap.pid, 'addr', 'show', 'eth0');
      expect(shown).toContain('10.9.1.2/24');
      expect(shown).not.toContain('10.9.0.2/24');
      expect(await ip(tap.pid, 'route')).not.toContain('10.9.0.');
    });

    it('keeps the interface while the relay is away; its carrier tells', async () => {
      const tap = start('--address', '10.9.0.2/24');
      const first = await accepted();
      await eventually('a carrier', async () => (await isRunningLink(tap.pid, 'eth0')) || undefined);
      first.destroy();
      server.close();
      await tap.stderr.waitFor(/link ended/);
      await tap.stderr.waitFor(/can't connect to unix:.*; trying again/);
      await eventually('no carrier', async () => !(await isRunningLink(tap.pid, 'eth0')) || undefined);
      expect(await ip(tap.pid, 'addr', 'show', 'eth0')).toContain('10.9.0.2/24');
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
      await accepted();
      await eventually('a carrier', async () => (await isRunningLink(tap.pid, 'eth0')) || undefined);
    });

    it.each(['SIGTERM', 'SIGINT'] as const)(
      '%s ends it with 0, within a second, beside a relay that does not read',
      async (signal) => {
        const tap = start();
        const socket = await accepted();
        socket.pause();
        await tap.stderr.waitFor(/connected to process \d+/);
        const begin = performance.now();
        tap.kill(signal);
        expect(await tap.ended).toEqual({ exitCode: 0, signal: null });
        expect(performance.now() - begin).toBeLessThan(scaled(1000));
      },
    );

    it('--once ends with 0 when the connection ends', async () => {
      const tap = start('--once');
      (await accepted()).destroy();
      expect(await tap.ended).toEqual({ exitCode: 0, signal: null });
    });

    it('--quiet says nothing', async () => {
      const tap = start('--quiet', '--once');
      const socket = await accepted();
      hello(socket, { interfaceAddresses: ['10.9.0.2/24'] });
      await eventually('the address', async () => (await ip(tap.pid, 'addr')).includes('10.9.0.2') || undefined);
      socket.destroy();
      await tap.ended;
      expect(tap.stderr.all).toEqual([]);
    });

    it('ends with 1 and says so when its interface is deleted', async () => {
      const tap = start();
      await accepted();
      await tap.stderr.waitFor(/connected/);
      await ip(tap.pid, 'link', 'del', 'eth0');
      expect(await tap.ended).toEqual({ exitCode: 1, signal: null });
      expect(tap.stderr.all.at(-1)).toMatch(/^arca-tap: eth0 is gone: /);
    });

    it('joins a namespace by its path, and dials from its own', async () => {
      const holder = startInBackground('unshare', ['--net', 'sleep', '60']);
      running.push(holder);
      const own = await readFile('/proc/self/net/dev', 'utf8');
      const ready = async () => ((await readFile(`/proc/${holder.pid}/net/dev`, 'utf8')) !== own ? true : undefined);
      await eventually('the namespace', ready);
      const tap = startInBackground(PROGRAM, [
        '--connect',
        `unix:${socketPath}`,
        '--netns',
        `/proc/${holder.pid}/ns/net`,
      ]);
      running.push(tap);
      await accepted();
      expect(await ip(holder.pid, 'link', 'show', 'eth0')).toContain('eth0');
      await expect(ip(process.pid, 'link', 'show', 'eth0')).resolves.not.toContain('arca-tap');
    });

    describe('whose standard error nobody reads', () => {
      /** arca-tap with a pipe for standard error, which `closeReader` leaves without a reader. */
      async function startUnread() {
        const fifo = path.join(scratch, 'stderr');
        execFileSync('mkfifo', [fifo]);
        const reader = await open(fifo, constants.O_RDWR | constants.O_NONBLOCK);
        const writer = await open(fifo, constants.O_WRONLY);
        const child = spawn('unshare', ['--net', PROGRAM, '--connect', `unix:${socketPath}`], {
          stdio: ['ignore', 'ignore', writer.fd],
        });
        const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
        await writer.close();
        return {
          child,
          closeReader: () => reader.close(),
          stop: async () => {
            child.kill('SIGKILL');
            await ended;
            await reader.close();
          },
        };
      }

      it('lives on when it is closed', async () => {
        const { child, closeReader, stop } = await startUnread();
        try {
          const first = await accepted();
          await closeReader();
          first.destroy(); // which it reports
          (await accepted()).destroy();
          await accepted();
          expect(child.signalCode).toBeNull();
        } finally {
          await stop();
        }
      });

      it('moves frames when it is full', async () => {
        const { stop } = await startUnread();
        try {
          const socket = await accepted();
          const parser = createRecordParser();
          const pongs: bigint[] = [];
          let heard = (): void => {};
          socket.on('data', (bytes) => {
            for (const record of parser.push(bytes).records) {
              const pong = record.type === CONTROL ? decodeControl(record.payload)?.pong : undefined;
              if (pong !== undefined) pongs.push(pong);
            }
            heard();
          });
          // Each HELLO is some 2 KB of lines, a pipe holds 64. The pong says that it was taken.
          for (let i = 1n; i <= 60n; ++i) {
            hello(socket, {
              interfaceAddresses: Array.from({ length: 16 }, (_, k) => `fd00:1111:2222:3333:4444:5555:${i}:${k}/64`),
              interfaceDns: Array.from({ length: 16 }, (_, k) => `fd00:1111:2222:3333:4444:5555:6666:${k}`),
            });
            socket.write(encodeRecord(CONTROL, encodeControl({ ping: i })));
            await within(
              new Promise<void>((resolve) => {
                heard = () => pongs.at(-1) === i && resolve();
              }),
              `pong ${i}`,
            );
          }
        } finally {
          await stop();
        }
      });
    });
  },
);
