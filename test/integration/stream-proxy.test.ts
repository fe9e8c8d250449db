/** The byte proxy with callers that speak its transport: AF_VSOCK in the nested kernel, Unix sockets elsewhere. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  parseEndpoint,
  type StreamProxy,
  type StreamProxyEvent,
  type StreamProxyOptions,
  startStreamProxy,
} from '../../src/native.js';
import { testTransport } from '../support/endpoint.js';
import { eventually, within } from '../support/time.js';
import { PEER_TOOL } from '../support/tools.js';

const CID_LOCAL = 1;
const FIRST_PORT = 7000;
const MIB = 1024 * 1024;
const isVsock = testTransport() === 'vsock';

interface Caller {
  /** Its input's end is the end of what it sends. */
  readonly process: ReturnType<typeof spawn>;
  /** All that it received, when the stream is over. */
  readonly received: Promise<Buffer>;
  /** 0: the stream ended; 1: it was reset. */
  readonly exitCode: Promise<number | null>;
}

let directory: string;
let server: Server | undefined;
let proxy: StreamProxy | undefined;
let events: StreamProxyEvent[];
let callers: Caller[];
let port = FIRST_PORT;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'arca-proxy-'));
  events = [];
  callers = [];
  port += 1;
});
afterEach(async () => {
  for (const caller of callers) caller.process.kill('SIGKILL');
  await Promise.all(callers.map(({ exitCode }) => exitCode));
  await proxy?.stop();
  proxy = undefined;
  server?.close();
  await rm(directory, { recursive: true, force: true });
});

function startProxy(changes: Partial<StreamProxyOptions> = {}): StreamProxy {
  const listen = isVsock ? `vsock:${port}` : `unix:${join(directory, 'in')}`;
  proxy = startStreamProxy(
    {
      listen: parseEndpoint(listen),
      target: { transport: 'unix', path: join(directory, 'out') },
      allowedCids: [CID_LOCAL],
      maxConnections: 8,
      ...changes,
    },
    (event) => events.push(event),
  );
  return proxy;
}

async function serve(onConnection: (socket: Socket) => void): Promise<void> {
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(join(directory, 'out'));
  await once(server, 'listening');
}

function call(): Caller {
  const address = isVsock ? `vsock:${CID_LOCAL}:${port}` : `unix:${join(directory, 'in')}`;
  const child = spawn(PEER_TOOL, ['pipe', address], { stdio: ['pipe', 'pipe', 'pipe'] });
  const pieces: Buffer[] = [];
  child.stdin.on('error', () => {});
  child.stdout.on('data', (piece: Buffer) => pieces.push(piece));
  child.stderr.resume();
  const exitCode = once(child, 'close').then(([code]) => code as number | null);
  const caller = { process: child, received: exitCode.then(() => Buffer.concat(pieces)), exitCode };
  callers.push(caller);
  return caller;
}

/** To the end of what comes; the socket may still be written to, which an iteration over it would not allow. */
function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  return new Promise((done) => socket.once('end', () => done(Buffer.concat(pieces))));
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe(`the byte proxy over ${testTransport()}`, () => {
  it('carries megabytes both ways, and the end of each by itself', async () => {
    const asked = randomBytes(3 * MIB);
    const answered = randomBytes(3 * MIB);
    let seen: Buffer | undefined;
    // The answer goes out after the caller has said its last: half of the connection is closed then.
    await serve((socket) => {
      void readAll(socket).then((bytes) => {
        seen = bytes;
        socket.end(answered);
      });
    });
    startProxy();
    const caller = call();
    caller.process.stdin?.end(asked);
    const received = await within(caller.received, 'the answer', 20_000);
    expect(seen && digest(seen)).toBe(digest(asked));
    expect(digest(received)).toBe(digest(answered));
    expect(await caller.exitCode).toBe(0);
    const stats = await eventually('its end', () => {
      const now = proxy?.stats();
      return now?.connectionsOpen === 0 ? now : undefined;
    });
    expect(stats).toMatchObject({
      connectionsAccepted: 1,
      bytesToTarget: asked.length,
      bytesFromTarget: answered.length,
    });
  });

  it('delivers what the target said before it closed', async () => {
    const answered = randomBytes(MIB / 2);
    await serve((socket) => void socket.once('data', () => socket.end(answered, () => socket.destroy())));
    startProxy();
    const caller = call();
    caller.process.stdin?.write('ask');
    expect(digest(await within(caller.received, 'the answer', 20_000))).toBe(digest(answered));
  });

  it('lets go of the target when the caller is killed', async () => {
    let closed = false;
    await serve((socket) => {
      socket.write('hello');
      void readAll(socket).then(() => {
        closed = true;
        socket.end();
      });
    });
    startProxy();
    const caller = call();
    if (caller.process.stdout) await once(caller.process.stdout, 'data');
    caller.process.kill('SIGKILL');
    await eventually('the end at the target', () => closed || undefined);
    await eventually('no connection', () => proxy?.stats().connectionsOpen === 0 || undefined);
  });

  it('refuses callers beyond its limit, and serves those that it has', async () => {
    await serve((socket) => void socket.pipe(socket));
    startProxy({ maxConnections: 1 });
    const first = call();
    first.process.stdin?.write('one');
    if (first.process.stdout) await once(first.process.stdout, 'data');
    const second = call();
    expect((await within(second.received, 'the refusal')).length).toBe(0);
    await eventually('the event', () => events.length > 0 || undefined);
    expect(events).toMatchObject([{ type: 'refused', reason: 'busy', count: 1 }]);
    first.process.stdin?.end('two');
    expect(String(await within(first.received, 'its own words'))).toBe('onetwo');
  });

  it('frees its address when it stops, with connections open', async () => {
    await serve((socket) => void socket.pipe(socket));
    for (let round = 0; round < 5; round++) {
      startProxy();
      const caller = call();
      caller.process.stdin?.write('here');
      if (caller.process.stdout) await once(caller.process.stdout, 'data');
      await proxy?.stop();
      await within(caller.received, 'the end of the stream');
    }
  });

  it.skipIf(!isVsock)('(AF_VSOCK only) lets in the CIDs that are named, and tells the target of no other', async () => {
    let connections = 0;
    await serve((socket) => {
      connections += 1;
      socket.end('hello');
    });
    startProxy({ allowedCids: [3, 4] });
    const refused = call();
    refused.process.stdin?.write('let me in');
    expect((await within(refused.received, 'the refusal')).length).toBe(0);
    await eventually('the event', () => events.length > 0 || undefined);
    expect(events).toMatchObject([
      { type: 'refused', reason: 'cid-not-allowed', peer: { transport: 'vsock', cid: CID_LOCAL }, count: 1 },
    ]);
    expect(proxy?.stats()).toMatchObject({ connectionsAccepted: 0, bytesToTarget: 0 });
    expect(connections).toBe(0);
    await proxy?.stop();

    startProxy({ allowedCids: [3, CID_LOCAL] });
    expect(String(await within(call().received, 'the answer'))).toBe('hello');
    expect(connections).toBe(1);
  });
});
