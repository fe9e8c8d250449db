import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Northbound, openNorthbound } from '../../src/ovn/northbound.js';
import { type Request, type ScriptedOvsdb, scriptedOvsdb } from '../support/scripted-ovsdb.js';

const call = { timeoutMs: 2000 };
let server: ScriptedOvsdb;
let northbound: Northbound;

/** What stands in the database when somebody begins to monitor. */
let rows: Record<string, unknown>;
let onTransact: (request: Request, operations: readonly Operation[]) => void;

interface Operation {
  readonly op: string;
  readonly table: string;
  readonly row?: Readonly<Record<string, unknown>>;
}

const GLOBAL = { g: { initial: { external_ids: ['map', [['arca-generation', '1.x']]] } } };
const network = { name: 'net-a', externalIds: { vlan_tag: '100' }, otherConfig: {} };
const LOST_RACE = { error: 'timed out', details: '"wait" timed out' };

beforeEach(async () => {
  server = await scriptedOvsdb();
  rows = { NB_Global: GLOBAL };
  onTransact = () => {};
  let monitor: Request | undefined;
  server.onRequest = (request) => {
    if (request.method === 'monitor_cond') {
      monitor = request;
      request.answer(rows);
    } else if (request.method === 'transact') {
      const operations = request.params.slice(1) as readonly Operation[];
      // What an empty one asks is whether the view is new enough.
      if (operations.length === 0) request.answer([]);
      else onTransact({ ...request, update: (tables) => monitor?.update(tables) }, operations);
    } else if (request.method === 'echo') request.answer([]);
  };
  northbound = openNorthbound({ target: server.target });
});

afterEach(async () => {
  await northbound.stop();
  await server.remove();
});

/** Does what the operations say, as far as a network is concerned, and answers. */
function commit(request: Request, operations: readonly Operation[]): void {
  const insert = operations.find(({ op, table }) => op === 'insert' && table === 'Logical_Switch');
  request.update({ Logical_Switch: { s: { insert: insert?.row } } });
  request.answer(operations.map(() => ({})));
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('a change', () => {
  it('is one transaction, guarded by name, tag and generation', async () => {
    const seen: string[] = [];
    onTransact = (request, operations) => {
      for (const { op, table } of operations) seen.push(`${op} ${table}`);
      commit(request, operations);
    };
    const { created, row } = await northbound.createSwitch(() => ({ write: network }), call);
    expect({ created, name: row.name }).toEqual({ created: true, name: 'net-a' });
    expect(seen).toEqual([
      ...['wait Logical_Switch', 'wait Logical_Switch', 'wait NB_Global'],
      ...['insert Logical_Switch', 'mutate NB_Global'],
    ]);
  });

  it('is planned again when somebody was faster', async () => {
    const views: number[] = [];
    onTransact = (request, operations) => {
      onTransact = commit;
      request.update({ Logical_Switch: { other: { insert: { name: 'other' } } } });
      request.answer(operations.slice(0, 2).map((_, i) => (i === 1 ? LOST_RACE : {})));
    };
    const { row } = await northbound.createSwitch(({ switches }) => {
      views.push(switches.length);
      return { write: network };
    }, call);
    expect(row.uuid).toBe('s');
    expect(views).toEqual([0, 1]);
  });

  it('is not tried for ever when the server says that we are late and does not say for what', async () => {
    onTransact = (request) => request.answer([LOST_RACE]);
    expect(await failureOf(northbound.createSwitch(() => ({ write: network }), call))).toMatchObject({
      code: 'unexpected',
    });
  });

  it('that the database refuses says so', async () => {
    onTransact = (request, operations) => {
      request.answer([...operations.map(() => ({})), { error: 'constraint violation', details: 'why' }]);
    };
    const error = await failureOf(northbound.createSwitch(() => ({ write: network }), call));
    expect(error).toMatchObject({ code: 'unexpected', message: expect.stringContaining('constraint violation') });
  });

  it('a no is said only from a view that is new enough', async () => {
    await northbound.currentView(call);
    const previous = server.onRequest;
    let updates = 0;
    server.onRequest = (request) => {
      const isBarrier = request.method === 'transact' && request.params.length === 1;
      const monitor = server.requests.find(({ method }) => method === 'monitor_cond');
      if (isBarrier && updates++ === 0) monitor?.update({ Logical_Switch: { s: { insert: { name: 'net-a' } } } });
      previous(request);
    };
    const { created } = await northbound.createSwitch(({ switches }) => {
      const [keep] = switches;
      if (keep === undefined) throw new Error('no such network');
      return { keep };
    }, call);
    expect(created).toBe(false);
  });
});

describe('a server that does not answer', () => {
  it('a change that came late is undone, before anything else', async () => {
    let late: readonly Operation[] | undefined;
    onTransact = (_request, operations) => {
      late = operations;
    };
    expect(await failureOf(northbound.createSwitch(() => ({ write: network }), { timeoutMs: 50 }))).toMatchObject({
      code: 'northbound-timeout',
    });
    // The server goes on: it had the transaction in its queue.
    const made = late?.find(({ op }) => op === 'insert')?.row;
    rows = { NB_Global: GLOBAL, Logical_Switch: { s: { initial: made } } };
    const undone: string[] = [];
    onTransact = (request, operations) => {
      for (const { op, table } of operations) undone.push(`${op} ${table}`);
      request.update({ Logical_Switch: { s: { delete: null } } });
      request.answer(operations.map(() => ({})));
    };
    const view = await northbound.currentView(call);
    expect(view.switches).toEqual([]);
    expect(undone).toEqual(['wait Logical_Switch', 'wait NB_Global', 'delete Logical_Switch', 'mutate NB_Global']);
  });

  it('a change that did not come yet is kept from coming', async () => {
    expect(await failureOf(northbound.createSwitch(() => ({ write: network }), { timeoutMs: 50 }))).toMatchObject({
      code: 'northbound-timeout',
    });
    const fence: string[] = [];
    onTransact = (request, operations) => {
      for (const { op, table } of operations) fence.push(`${op} ${table}`);
      request.answer(operations.map(() => ({})));
    };
    await northbound.currentView(call);
    // Its guard on the generation fails from now on.
    expect(fence).toEqual(['wait NB_Global', 'mutate NB_Global']);
  });

  it('a change whose connection is lost is undone too', async () => {
    onTransact = (request) => request.hangUp();
    expect(await failureOf(northbound.createSwitch(() => ({ write: network }), call))).toMatchObject({
      code: 'northbound-unreachable',
    });
    const fence: string[] = [];
    onTransact = (request, operations) => {
      for (const { op, table } of operations) fence.push(`${op} ${table}`);
      request.answer(operations.map(() => ({})));
    };
    await northbound.currentView(call);
    expect(fence).toEqual(['wait NB_Global', 'mutate NB_Global']);
  });

  it('other calls say which of them it was', async () => {
    await northbound.currentView(call);
    server.onRequest = () => {};
    expect(await failureOf(northbound.echo({ timeoutMs: 30 }))).toMatchObject({ code: 'northbound-timeout' });
    expect(await failureOf(northbound.sync({ timeoutMs: 30 }))).toMatchObject({ code: 'northbound-timeout' });
    expect(await failureOf(northbound.currentView({ timeoutMs: 30 }))).toMatchObject({ code: 'northbound-timeout' });
  });

  it('a view is none while there is no connection', async () => {
    await northbound.currentView(call);
    expect(northbound.view().switches).toEqual([]);
    await server.close();
    await expect.poll(() => northbound.isConnected()).toBe(false);
    expect(() => northbound.view()).toThrow(expect.objectContaining({ code: 'northbound-unreachable' }));
  });
});

describe('waiting', () => {
  it('for addresses ends with a port that goes, or when its subnet is full', async () => {
    const port = (drawn: string) => ({ name: 'web/net-a', addresses: 'dynamic', dynamic_addresses: drawn });
    rows = {
      NB_Global: GLOBAL,
      Logical_Switch: {
        s: { initial: { name: 'net-a', ports: ['uuid', 'p'], other_config: ['map', [['subnet', '10.9.0.0/30']]] } },
      },
      Logical_Switch_Port: { p: { initial: port('') } },
    };
    await northbound.currentView(call);
    const monitor = server.requests.find(({ method }) => method === 'monitor_cond');
    const full = failureOf(northbound.waitForAddresses('p', call));
    monitor?.update({ Logical_Switch_Port: { p: { modify: { dynamic_addresses: '02:00:00:00:00:01' } } } });
    expect(await full).toMatchObject({ code: 'ports-exhausted' });
    monitor?.update({ Logical_Switch_Port: { p: { modify: { dynamic_addresses: ['set', []] } } } });
    await northbound.waitFor(({ ports }) => (ports[0]?.dynamicAddresses === '' ? true : undefined), 'the change', call);
    const gone = failureOf(northbound.waitForAddresses('p', call));
    monitor?.update({
      Logical_Switch: { s: { modify: { ports: ['uuid', 'p'] } } },
      Logical_Switch_Port: { p: { delete: null } },
    });
    expect(await gone).toMatchObject({ code: 'attachment-unknown' });
  });

  it('ends at its deadline with the name of the daemon, and when it is stopped', async () => {
    await northbound.currentView(call);
    const late = await failureOf(northbound.waitFor(() => undefined, 'nothing', { timeoutMs: 20 }));
    expect(late).toMatchObject({ code: 'northbound-timeout', details: { daemon: 'ovn-northd' } });
    const controller = new AbortController();
    const stopped = failureOf(northbound.waitFor(() => undefined, 'nothing', { ...call, signal: controller.signal }));
    controller.abort();
    expect(await stopped).toMatchObject({ code: 'timed-out' });
  });
});
