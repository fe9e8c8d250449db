/** The client against a server that does what each test says; the real one is in test/integration/ovsdb.test.ts. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectOvsdb, type OvsdbClient } from '../../src/ovsdb/client.js';
import { targetText } from '../../src/ovsdb/remote.js';
import { type Request, type ScriptedOvsdb, scriptedOvsdb } from '../support/scripted-ovsdb.js';

const call = { timeoutMs: 2000 };
let server: ScriptedOvsdb;
let client: OvsdbClient;

beforeEach(async () => {
  server = await scriptedOvsdb();
  client = await connectOvsdb(server.target, call);
});

afterEach(async () => {
  client.close();
  await server.remove();
});

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

const methods = (): string[] => server.requests.map(({ method }) => method);
const requestOf = (method: string): Request => {
  const request = server.requests.find((candidate) => candidate.method === method);
  if (request === undefined) throw new Error(`no ${method} among ${methods().join(', ')}`);
  return request;
};

describe('transact', () => {
  it('cancels what is not answered by the deadline, and says that it may be done all the same', async () => {
    const error = await failureOf(client.transact('X', [], { timeoutMs: 30 }));
    expect(error).toMatchObject({ failure: 'timed-out', message: expect.stringContaining('may have committed') });
    await vi.waitFor(() => expect(methods()).toEqual(['transact', 'cancel']));
    expect(requestOf('cancel')).toMatchObject({ id: null, params: [requestOf('transact').id] });
  });

  it('cancels what its caller gives up', async () => {
    const controller = new AbortController();
    const failure = failureOf(client.transact('X', [], { ...call, signal: controller.signal }));
    await vi.waitFor(() => expect(methods()).toEqual(['transact']));
    controller.abort();
    expect(await failure).toMatchObject({ failure: 'aborted' });
    await vi.waitFor(() => expect(methods()).toEqual(['transact', 'cancel']));
  });

  it('cancels nothing that was answered, and takes an answer that comes after the deadline for none', async () => {
    server.onRequest = (request) => request.answer([]);
    await client.transact('X', [], call);
    server.onRequest = () => {};
    await failureOf(client.transact('X', [], { timeoutMs: 20 }));
    await vi.waitFor(() => expect(methods()).toEqual(['transact', 'transact', 'cancel']));
    server.requests[1]?.refuse('canceled');
    server.onRequest = (request) => request.answer(['later']);
    expect(await client.listDatabases(call)).toEqual(['later']);
  });
});

describe('monitor', () => {
  const spec = { P: { columns: { name: 'plain', tag: 'plain' }, where: [['kind', '==', 'ours']] } } as const;

  it('falls back to RFC 7047, where the server has no monitor_cond', async () => {
    server.onRequest = (request) => {
      if (request.method === 'monitor_cond') request.refuse('unknown method');
      else if (request.method === 'monitor') {
        request.answer({
          P: { a: { new: { name: 'a', tag: 1, kind: 'ours' } }, b: { new: { name: 'b', kind: 'other' } } },
        });
      }
    };
    let changes = 0;
    const tables = await client.monitor('X', spec, () => changes++, call);
    expect(requestOf('monitor').params[2]).toEqual({ P: [{ columns: ['name', 'tag', 'kind'] }] });
    expect(Object.fromEntries(tables.get('P') ?? [])).toEqual({ a: { name: 'a', tag: 1 } });

    const { send, params } = requestOf('monitor');
    const update = (rows: unknown): void => send({ id: null, method: 'update', params: [params[1], { P: rows }] });
    update({ a: { old: { tag: 1 }, new: { name: 'a', tag: 2, kind: 'ours' } } });
    // Comes into sight, and goes out of it.
    update({ b: { old: { kind: 'other' }, new: { name: 'b', kind: 'ours' } } });
    await vi.waitFor(() => expect(changes).toBe(2));
    expect(Object.fromEntries(tables.get('P') ?? [])).toEqual({ a: { name: 'a', tag: 2 }, b: { name: 'b' } });
    update({ a: { old: { kind: 'ours' }, new: { name: 'a', tag: 2, kind: 'other' } }, b: { old: { name: 'b' } } });
    await vi.waitFor(() => expect(changes).toBe(3));
    expect(tables.get('P')?.size).toBe(0);
  });

  it('does not fall back for another error', async () => {
    server.onRequest = (request) => request.refuse({ error: 'unknown database' });
    expect(await failureOf(client.monitor('X', spec, () => {}, call))).toMatchObject({ failure: 'refused' });
    expect(methods()).toEqual(['monitor_cond']);
  });

  it('tells nothing more after it was cancelled', async () => {
    server.onRequest = (request) => request.answer({});
    let changes = 0;
    const tables = await client.monitor('X', spec, () => changes++, call);
    await client.cancelMonitor(tables, call);
    expect(requestOf('monitor_cancel').params).toEqual([requestOf('monitor_cond').params[1]]);
    requestOf('monitor_cond').update({ P: { a: { insert: { name: 'a' } } } });
    await client.echo(call);
    expect(changes).toBe(0);
    expect(tables.get('P')?.size).toBe(0);
    await expect(client.cancelMonitor(new Map(), call)).rejects.toThrow(/no monitor/);
  });
});

describe('lock', () => {
  it('is told when the lock comes, also in one chunk with the answer, and when it is stolen', async () => {
    server.onRequest = (request) => {
      if (request.method !== 'lock') return;
      request.answer({ locked: false });
      request.send({ id: null, method: 'locked', params: ['l'] });
    };
    const told: boolean[] = [];
    const lock = await client.lock('l', (isHeld) => told.push(isHeld), call);
    await lock.whenHeld(call);
    expect(lock.isHeld()).toBe(true);
    expect(told).toEqual([true]);
    requestOf('lock').send({ id: null, method: 'stolen', params: ['l'] });
    await vi.waitFor(() => expect(told).toEqual([true, false]));
    expect(lock.isHeld()).toBe(false);
    expect(await failureOf(lock.whenHeld({ timeoutMs: 20 }))).toMatchObject({ failure: 'timed-out' });
  });

  it('asks for the theft, and gives back', async () => {
    server.onRequest = (request) => request.answer(request.method === 'steal' ? { locked: true } : {});
    const lock = await client.steal('l', () => {}, call);
    expect(lock.isHeld()).toBe(true);
    await lock.unlock(call);
    expect(lock.isHeld()).toBe(false);
    expect(server.requests.map(({ method, params }) => [method, params])).toEqual([
      ['steal', ['l']],
      ['unlock', ['l']],
    ]);
  });

  it('is gone with the connection, and who waits is told', async () => {
    server.onRequest = (request) => request.answer({ locked: false });
    const lock = await client.lock('l', () => {}, call);
    const waiting = failureOf(lock.whenHeld(call));
    server.hangUp();
    expect(await waiting).toMatchObject({ failure: 'closed' });
    expect(lock.isHeld()).toBe(false);
  });

  it('leaves no lock behind that nobody knows of', async () => {
    expect(await failureOf(client.lock('l', () => {}, { timeoutMs: 20 }))).toMatchObject({ failure: 'timed-out' });
    await vi.waitFor(() => expect(methods()).toEqual(['lock', 'unlock']));
  });
});

describe('a server that misbehaves', () => {
  it.each<[string, (client: OvsdbClient) => Promise<unknown>, unknown]>([
    ['list_dbs', (it) => it.listDatabases(call), { no: 'list' }],
    ['get_schema', (it) => it.getSchema('X', call), { name: 'X', tables: { T: { columns: { c: { type: 'odd' } } } } }],
    ['transact', (it) => it.transact('X', [], call), 'text'],
  ])('has its answer to %s refused', async (_method, ask, answer) => {
    server.onRequest = (request) => request.answer(answer);
    expect(await failureOf(ask(client))).toMatchObject({ failure: 'protocol' });
  });

  it('may close at any byte: a monitor is whole then, or there is none', async () => {
    const spec = { P: { columns: { name: 'plain' } } } as const;
    const answer = '{"id":1,"result":{"P":{"a":{"initial":{"name":"ä"}}}},"error":null}';
    const update = '{"id":null,"method":"update2","params":["monitor-1",{"P":{"b":{"insert":{"name":"b"}}}}]}';
    const bytes = Buffer.from(answer + update);
    const answerBytes = Buffer.byteLength(answer);
    for (let cut = 0; cut <= bytes.length; cut++) {
      server.onRequest = ({ end }) => end(bytes.subarray(0, cut));
      const other = await connectOvsdb(server.target, call);
      const monitoring = other.monitor('X', spec, () => {}, call);
      if (cut < answerBytes) expect(await failureOf(monitoring)).toMatchObject({ failure: 'closed' });
      else expect((await monitoring).get('P')?.get('a')).toEqual({ name: 'ä' });
      expect(await other.closed).toMatchObject({ failure: 'closed' });
      if (cut === bytes.length) expect((await monitoring).get('P')?.size).toBe(2);
    }
  });

  it('is given up when it reads nothing that it is sent', async () => {
    const stopped = await scriptedOvsdb({ readsNothing: true });
    const big = 'x'.repeat(1024 * 1024);
    const calls: Promise<unknown>[] = [];
    const other = await connectOvsdb(stopped.target, call);
    for (let i = 0; i < 40; i++) calls.push(failureOf(other.transact('X', [{ op: 'comment', comment: big }], call)));
    expect(await other.closed).toMatchObject({ failure: 'closed', message: expect.stringContaining('does not read') });
    await Promise.all(calls);
    await stopped.remove();
  });
});

describe('connectOvsdb to several servers', () => {
  let other: ScriptedOvsdb;
  beforeEach(async () => {
    other = await scriptedOvsdb();
  });
  afterEach(() => other.remove());

  const served = (leader: boolean) => (request: Request) => {
    const row = { name: 'X', model: 'clustered', connected: true, leader };
    if (request.method === 'monitor_cond') request.answer({ Database: { u: { initial: row } } });
  };

  it('takes the first that is there', async () => {
    const gone = await scriptedOvsdb();
    await gone.remove();
    const found = await connectOvsdb({ transport: 'cluster', servers: [gone.target, other.target] }, call);
    expect(targetText(found.target)).toBe(targetText(other.target));
    found.close();
  });

  it('takes the leader, and leaves it when it does not lead any more', async () => {
    server.onRequest = served(false);
    other.onRequest = served(true);
    const cluster = { transport: 'cluster', servers: [server.target, other.target] } as const;
    const found = await connectOvsdb(cluster, { ...call, leaderOf: 'X' });
    expect(targetText(found.target)).toBe(targetText(other.target));
    other.requests[0]?.update({ Database: { u: { modify: { leader: false } } } });
    expect(await found.closed).toMatchObject({ message: expect.stringContaining('not the leader') });
  });

  it('says of each why it will not do', async () => {
    server.onRequest = served(false);
    await other.close();
    const cluster = { transport: 'cluster', servers: [server.target, other.target] } as const;
    const error = await failureOf(connectOvsdb(cluster, { ...call, leaderOf: 'X' }));
    expect(error).toMatchObject({ message: expect.stringMatching(/not the leader.*can not connect/) });
  });

  it('leaves a server that says nothing in time for the next', async () => {
    other.onRequest = served(true);
    const cluster = { transport: 'cluster', servers: [server.target, other.target] } as const;
    const found = await connectOvsdb(cluster, { timeoutMs: 600, leaderOf: 'X' });
    expect(targetText(found.target)).toBe(targetText(other.target));
    found.close();
  });
});
