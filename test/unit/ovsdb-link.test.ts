import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type LinkOptions, type OvsdbLink, openOvsdbLink } from '../../src/ovsdb/link.js';
import { type ScriptedOvsdb, scriptedOvsdb } from '../support/scripted-ovsdb.js';

const call = { timeoutMs: 2000 };
let server: ScriptedOvsdb;
let links: OvsdbLink[];

beforeEach(async () => {
  server = await scriptedOvsdb();
  links = [];
});

afterEach(async () => {
  for (const link of links) await link.stop();
  await server.remove();
});

function open(options: Partial<LinkOptions> = {}): OvsdbLink {
  const link = openOvsdbLink({
    target: server.target,
    database: 'X',
    monitor: { P: { columns: { name: 'plain' } } },
    onChange: () => {},
    ...options,
  });
  links.push(link);
  return link;
}

/** Answers `monitor_cond` with one row, named after the number of the connection. */
const serve = (): void => {
  server.onRequest = (request) => {
    if (request.method === 'monitor_cond')
      request.answer({ P: { u: { initial: { name: `c${request.connection}` } } } });
  };
};

const nameIn = (link: OvsdbLink): unknown => link.session()?.tables.get('P')?.get('u')?.['name'];

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('openOvsdbLink', () => {
  it('connects, and monitors again after each loss', async () => {
    serve();
    const told: unknown[] = [];
    const link = open({ onChange: () => told.push(nameIn(link)) });
    await link.waitForSession(call);
    expect(nameIn(link)).toBe('c0');
    server.hangUp();
    await vi.waitFor(() => expect(nameIn(link)).toBe('c1'));
    expect(told).toEqual(['c0', undefined, 'c1']);
  });

  it('tells changes of the rows', async () => {
    serve();
    const told: unknown[] = [];
    const link = open({ onChange: () => told.push(nameIn(link)) });
    await link.waitForSession(call);
    server.requests[0]?.update({ P: { u: { modify: { name: 'new' } } } });
    await vi.waitFor(() => expect(told).toEqual(['c0', 'new']));
  });

  it('waits for a server that is not there yet', async () => {
    serve();
    await server.close();
    const link = open();
    expect(await failureOf(link.waitForSession({ timeoutMs: 50 }))).toMatchObject({ failure: 'unreachable' });
    expect(link.failure()).toMatchObject({ failure: 'unreachable' });
    const waiting = link.waitForSession(call);
    await server.listen();
    await waiting;
    expect(link.failure()).toBeUndefined();
  });

  it('gives up a server that takes the connection and says nothing, and goes on trying', async () => {
    const link = open({ connectTimeoutMs: 30 });
    expect(await failureOf(link.waitForSession({ timeoutMs: 100 }))).toMatchObject({ failure: 'timed-out' });
    serve();
    await link.waitForSession(call);
  });

  it('is in no hot loop at a server that hangs up on everybody', async () => {
    server.onRequest = (request) => request.hangUp();
    open();
    await vi.waitFor(() => expect(server.connections()).toBeGreaterThan(3));
    const before = server.connections();
    // 10 + 20 + 40 + 80 ms and so on.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(server.connections() - before).toBeLessThan(5);
  });

  it('has prepared a session before anybody gets it, and does not hand out one where that failed', async () => {
    serve();
    let attempts = 0;
    const told: unknown[] = [];
    const link = open({
      onChange: () => told.push(nameIn(link)),
      prepare: async ({ client, tables }) => {
        expect(link.session()).toBeUndefined();
        expect(tables.get('P')?.size).toBe(1);
        expect(client.isOpen()).toBe(true);
        if (attempts++ === 0) throw new Error('not yet');
      },
    });
    await link.waitForSession(call);
    expect(told).toEqual([undefined, 'c1']);
  });

  it('drops a connection, and makes another', async () => {
    serve();
    const link = open();
    await link.waitForSession(call);
    link.drop();
    await vi.waitFor(() => expect(nameIn(link)).toBe('c1'));
  });

  it('finds a server that has stopped answering by its probe', async () => {
    serve();
    const link = open({ probeIntervalMs: 20, probeTimeoutMs: 20 });
    await link.waitForSession(call);
    await vi.waitFor(() => expect(server.connections()).toBeGreaterThan(1));
  });

  it('goes from server to server of a cluster until it finds the leader, and on when that steps down', async () => {
    const others = [await scriptedOvsdb(), await scriptedOvsdb()];
    const servers = [server, ...others];
    let leader = 2;
    servers.forEach((each, index) => {
      each.onRequest = (request) => {
        if (request.method !== 'monitor_cond') return;
        if (request.params[0] === '_Server') {
          const row = { name: 'X', model: 'clustered', connected: true, leader: index === leader };
          request.answer({ Database: { u: { initial: row } } });
        } else request.answer({ P: { u: { initial: { name: `server ${index}` } } } });
      };
    });
    const link = open({ target: { transport: 'cluster', servers: servers.map(({ target }) => target) } });
    await link.waitForSession(call);
    expect(nameIn(link)).toBe('server 2');
    // Nobody leads for a while: the link goes round, and hands out no session.
    leader = -1;
    others[1]?.requests[0]?.update({ Database: { u: { modify: { leader: false } } } });
    await vi.waitFor(() => expect(link.failure()?.message).toMatch(/not the leader/));
    await vi.waitFor(() => expect(server.connections()).toBeGreaterThan(2));
    expect(link.session()).toBeUndefined();
    leader = 1;
    await link.waitForSession(call);
    expect(nameIn(link)).toBe('server 1');
    await link.stop();
    for (const other of others) await other.remove();
  });

  it('leaves a leader that is cut off, and takes any server where it is told to', async () => {
    const follower = { name: 'X', model: 'clustered', connected: false, leader: true };
    server.onRequest = (request) => {
      if (request.method === 'monitor_cond') request.answer({ Database: { u: { initial: follower } }, P: {} });
    };
    const strict = open({ leaderOnly: true });
    expect(await failureOf(strict.waitForSession({ timeoutMs: 100 }))).toMatchObject({
      message: expect.stringContaining('cut off'),
    });
    await strict.stop();
    await open({ target: { transport: 'cluster', servers: [server.target] }, leaderOnly: false }).waitForSession(call);
  });

  it.each([
    ['is in no cluster', { Database: { u: { initial: { name: 'X', model: 'standalone' } } } }],
    ['is too old to tell', undefined],
  ])('takes a server whose database %s', async (_why, served) => {
    server.onRequest = (request) => {
      if (request.method !== 'monitor_cond') return;
      if (request.params[0] !== '_Server') request.answer({});
      else if (served === undefined) request.refuse({ error: 'unknown database' });
      else request.answer(served);
    };
    await open({ leaderOnly: true }).waitForSession(call);
  });

  it('stops in every state, and then says so', async () => {
    serve();
    const connected = open();
    await connected.waitForSession(call);
    await connected.stop();
    await connected.stop();
    expect(connected.session()).toBeUndefined();
    expect(await failureOf(connected.waitForSession(call))).toMatchObject({ failure: 'closed' });
    server.onRequest = () => {};
    const silent = open();
    const waiting = failureOf(silent.waitForSession(call));
    await vi.waitFor(() => expect(server.connections()).toBe(2));
    await silent.stop();
    expect(await waiting).toMatchObject({ failure: 'closed' });
    await server.close();
    const lost = open();
    await failureOf(lost.waitForSession({ timeoutMs: 20 }));
    await lost.stop();
  });

  it('ends a wait when its signal aborts', async () => {
    const link = open();
    const controller = new AbortController();
    const waiting = failureOf(link.waitForSession({ ...call, signal: controller.signal }));
    controller.abort();
    expect(await waiting).toMatchObject({ failure: 'aborted' });
  });
});
