import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectOvsdb, OperationError } from '../../src/ovsdb/client.js';
import { connectRpc, RpcError } from '../../src/ovsdb/json-rpc.js';
import { createJsonStreamParser } from '../../src/ovsdb/json-stream.js';

interface Message {
  readonly id: unknown;
  readonly method?: string;
  readonly params?: unknown[];
  readonly result?: unknown;
}

/** A server that does what each test says: the real one is in the integration tests. */
let folder: string;
let path: string;
let server: Server;
let sockets: Socket[];
let onMessage: (message: Message, socket: Socket) => void;

const send = (socket: Socket, message: unknown): boolean => socket.write(JSON.stringify(message));
const call = { timeoutMs: 2000 };
const target = () => ({ transport: 'unix', path }) as const;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  path = join(folder, 'db.sock');
  sockets = [];
  onMessage = () => {};
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    const parser = createJsonStreamParser((message) => onMessage(message as Message, socket));
    socket.on('data', (chunk) => parser.push(chunk));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
  rmSync(folder, { recursive: true });
});

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('connectRpc', () => {
  it('says that nobody listens', async () => {
    const error = await failureOf(connectRpc({ transport: 'unix', path: `${path}.no` }, call));
    expect(error).toMatchObject({ failure: 'unreachable' });
  });

  it('does not connect when it is aborted', async () => {
    const error = await failureOf(connectRpc(target(), { ...call, signal: AbortSignal.abort() }));
    expect(error).toMatchObject({ failure: 'aborted' });
  });

  it('gives answers to their calls, whatever their order', async () => {
    const waiting: Message[] = [];
    onMessage = (message, socket) => {
      waiting.push(message);
      if (waiting.length < 3) return;
      for (const { id, params } of waiting.reverse()) send(socket, { id, result: params, error: null });
    };
    const connection = await connectRpc(target(), call);
    expect(await Promise.all([1, 2, 3].map((n) => connection.call('any', [n], call)))).toEqual([[1], [2], [3]]);
    connection.close();
  });

  it('rejects with the error that the other side answers', async () => {
    // As ovsdb-server 3.1 answers: there is no `result` beside it.
    onMessage = ({ id }, socket) => send(socket, { id, error: 'unknown method' });
    const connection = await connectRpc(target(), call);
    expect(await failureOf(connection.call('nosuch', [], call))).toMatchObject({
      failure: 'refused',
      answer: 'unknown method',
    });
    connection.close();
  });

  it('ends a call at its deadline, and ignores the answer that comes late', async () => {
    let late: (() => void) | undefined;
    onMessage = ({ id, method }, socket) => {
      if (method === 'slow') late = () => send(socket, { id, result: 'late', error: null });
      else send(socket, { id, result: 'quick', error: null });
    };
    const connection = await connectRpc(target(), call);
    expect(await failureOf(connection.call('slow', [], { timeoutMs: 30 }))).toMatchObject({ failure: 'timed-out' });
    late?.();
    expect(await connection.call('any', [], call)).toBe('quick');
    connection.close();
  });

  it('ends a call when its signal aborts', async () => {
    const connection = await connectRpc(target(), call);
    const controller = new AbortController();
    const failure = failureOf(connection.call('any', [], { ...call, signal: controller.signal }));
    controller.abort();
    expect(await failure).toMatchObject({ failure: 'aborted' });
    connection.close();
  });

  it('answers echo, and refuses other requests', async () => {
    const answers: Message[] = [];
    onMessage = (message) => answers.push(message);
    const connection = await connectRpc(target(), call);
    await vi.waitFor(() => expect(sockets).toHaveLength(1));
    send(sockets[0] as Socket, { id: 'echo', method: 'echo', params: ['x'] });
    send(sockets[0] as Socket, { id: 9, method: 'steal', params: [] });
    await vi.waitFor(() => expect(answers).toHaveLength(2));
    expect(answers[0]).toEqual({ id: 'echo', result: ['x'], error: null });
    expect(answers[1]).toMatchObject({ id: 9, error: 'unknown method' });
    connection.close();
  });

  it('tells the end of the connection at once, to calls and to watchers', async () => {
    onMessage = (_message, socket) => socket.destroy();
    const connection = await connectRpc(target(), call);
    expect(await failureOf(connection.call('any', [], call))).toMatchObject({ failure: 'closed' });
    expect(await connection.closed).toMatchObject({ failure: 'closed' });
    expect(connection.isOpen()).toBe(false);
    expect(await failureOf(connection.call('any', [], call))).toBeInstanceOf(RpcError);
  });

  it('closes on garbage', async () => {
    onMessage = (_message, socket) => socket.write('HTTP/1.1 400 Bad Request');
    const connection = await connectRpc(target(), call);
    expect(await failureOf(connection.call('any', [], call))).toMatchObject({ failure: 'protocol' });
  });

  it('survives a server that closes at any byte of its answer', async () => {
    const answer = '{"id":1,"result":["x"],"error":null}';
    for (let cut = 0; cut < answer.length; cut++) {
      onMessage = (_message, socket) => socket.end(answer.slice(0, cut));
      const connection = await connectRpc(target(), call);
      expect(await failureOf(connection.call('any', [], call))).toMatchObject({ failure: 'closed' });
    }
  });

  it('probes a silent server, and closes when it stays silent', async () => {
    const methods: unknown[] = [];
    onMessage = ({ method }) => methods.push(method);
    const probe = { method: 'echo', intervalMs: 20, timeoutMs: 20 };
    const connection = await connectRpc(target(), { ...call, probe });
    expect(await connection.closed).toMatchObject({ failure: 'timed-out' });
    expect(methods).toEqual(['echo']);
  });

  it('keeps a server that answers probes, even with an error', async () => {
    let probes = 0;
    onMessage = ({ id }, socket) => {
      probes++;
      send(socket, { id, error: 'no such command' });
    };
    const connection = await connectRpc(target(), {
      ...call,
      probe: { method: 'version', intervalMs: 5, timeoutMs: 1000 },
    });
    await vi.waitFor(() => expect(probes).toBeGreaterThan(2));
    expect(connection.isOpen()).toBe(true);
    connection.close();
  });
});

describe('connectOvsdb', () => {
  it('sends a transaction as RFC 7047 has it', async () => {
    let seen: Message | undefined;
    onMessage = (message, socket) => {
      seen = message;
      send(socket, { id: message.id, result: [{ count: 1 }], error: null });
    };
    const client = await connectOvsdb(target(), call);
    const operation = { op: 'delete', table: 'T', where: [['name', '==', 'x']] } as const;
    expect(await client.transact('Open_vSwitch', [operation], call)).toEqual([{ count: 1 }]);
    expect(seen).toEqual({ id: 1, method: 'transact', params: ['Open_vSwitch', operation] });
    client.close();
  });

  it('rejects with the error of an operation', async () => {
    onMessage = ({ id }, socket) => send(socket, { id, result: [{ error: 'timed out', details: 'd' }], error: null });
    const client = await connectOvsdb(target(), call);
    expect(await failureOf(client.transact('X', [], call))).toBeInstanceOf(OperationError);
    client.close();
  });

  it('loses no update that comes in one chunk with the answer to monitor', async () => {
    onMessage = ({ id, params }, socket) => {
      socket.write(
        JSON.stringify({ id, result: { P: { u1: { initial: { tag: 1 } } } }, error: null }) +
          JSON.stringify({
            id: null,
            method: 'update2',
            params: [params?.[1], { P: { u1: { modify: { tag: 2 } }, u2: { insert: {} } } }],
          }),
      );
    };
    const client = await connectOvsdb(target(), call);
    const changes: number[] = [];
    const tables = await client.monitor('X', { P: { columns: { tag: 'plain' } } }, () => changes.push(1), call);
    expect(Object.fromEntries(tables.get('P') ?? [])).toEqual({ u1: { tag: 2 }, u2: {} });
    send(sockets[0] as Socket, {
      id: null,
      method: 'update2',
      params: ['monitor-1', { P: { u2: { delete: null } } }],
    });
    await vi.waitFor(() => expect(changes).toHaveLength(1));
    expect(tables.get('P')?.size).toBe(1);
    client.close();
  });
});
