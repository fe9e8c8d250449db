/**
 * The OVSDB client against real servers with the schemas of OVS and OVN, and beside `ovsdb-client`, whose answers to the
 * same questions are what ours are compared with.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CommandError } from '../../src/exec.js';
import { connectOvsdb, type Operation, OperationError, type OvsdbClient } from '../../src/ovsdb/client.js';
import { isMatch } from '../../src/ovsdb/conditions.js';
import { type Condition, createUuidNames } from '../../src/ovsdb/operations.js';
import { type DatabaseSchema, monitorSpecOf, type PlainRow, parseSchema, plainRow } from '../../src/ovsdb/schema.js';
import { map, type Row, set, uuid, uuidText } from '../../src/ovsdb/values.js';
import { startInBackground } from '../support/background.js';
import {
  NORTHBOUND_SCHEMA,
  OVS_SCHEMA,
  type OvsdbServer,
  type OvsdbServers,
  ovsdbServers,
} from '../support/ovsdb-servers.js';
import { eventually, scaled } from '../support/time.js';

const OVS = 'Open_vSwitch';
const NORTHBOUND = 'OVN_Northbound';
const call = { timeoutMs: scaled(5000) };

let servers: OvsdbServers;
let server: OvsdbServer;
let clients: OvsdbClient[];

beforeAll(async () => {
  servers = ovsdbServers();
  const files = [
    await servers.createDatabase('conf.db', OVS_SCHEMA),
    await servers.createDatabase('nb.db', NORTHBOUND_SCHEMA),
  ];
  server = await servers.serve(files);
});
afterAll(() => servers.remove());

beforeEach(() => {
  clients = [];
});
afterEach(async () => {
  for (const client of clients) client.close();
  await emptied();
});

async function connected(): Promise<OvsdbClient> {
  const client = await connectOvsdb(server.target, call);
  clients.push(client);
  return client;
}

/** Rows that nothing refers to go by themselves. */
async function emptied(): Promise<void> {
  const client = await connectOvsdb(server.target, call);
  await client.transact(OVS, [{ op: 'delete', table: 'Open_vSwitch', where: [] }], call);
  await client.transact(NORTHBOUND, [{ op: 'delete', table: 'Logical_Switch', where: [] }], call);
  client.close();
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** A bridge of that name with `ports`, in a new Open_vSwitch row or, as `another`, in the one that is there. */
function bridgeWith(name: string, ports: readonly string[], another = false): Operation[] {
  const nameOf = createUuidNames();
  const bridge = ['named-uuid', nameOf('bridge')] as const;
  return [
    ...ports.flatMap((port, index): Operation[] => [
      {
        op: 'insert',
        table: 'Interface',
        'uuid-name': nameOf(`i ${port}`),
        row: { name: port, external_ids: map({ a: 'b' }) },
      },
      {
        op: 'insert',
        table: 'Port',
        'uuid-name': nameOf(`p ${port}`),
        row: {
          name: port,
          interfaces: ['named-uuid', nameOf(`i ${port}`)],
          ...(index > 0 && { tag: index, trunks: set(Array.from({ length: index }, (_, n) => n + 1)) }),
        },
      },
    ]),
    {
      op: 'insert',
      table: 'Bridge',
      'uuid-name': nameOf('bridge'),
      row: {
        name,
        ports: set(ports.map((port) => ['named-uuid', nameOf(`p ${port}`)] as const)),
        other_config: map({ 'ä "quoted"': '𝒳{}[]', b: '' }),
        stp_enable: true,
      },
    },
    another
      ? { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', bridge]] }
      : { op: 'insert', table: 'Open_vSwitch', row: { bridges: bridge } },
  ];
}

describe('schemas', () => {
  it('lists the databases that ovsdb-client lists', async () => {
    const listed = (await servers.tool('ovsdb-client', 'list-dbs', server.remote)).trim().split('\n');
    expect([...(await (await connected()).listDatabases(call))].sort()).toEqual(listed.sort());
  });

  it.each([OVS, NORTHBOUND, '_Server'])('reads the schema of %s as ovsdb-client prints it', async (database) => {
    const printed = JSON.parse(await servers.tool('ovsdb-client', 'get-schema', server.remote, database));
    const schema = await (await connected()).getSchema(database, call);
    expect(schema).toEqual(parseSchema(printed));
    const listing = await servers.tool('ovsdb-client', '--format=json', 'list-columns', server.remote, database);
    const columns = (JSON.parse(listing) as { data: [string, string, string][] }).data
      .filter(([, column]) => column !== '_uuid' && column !== '_version')
      .map(([table, column]) => `${table}.${column}`);
    const read = [...schema.tables].flatMap(([table, { columns }]) => [...columns.keys()].map((c) => `${table}.${c}`));
    expect(read.sort()).toEqual(columns.sort());
  });

  it('says that there is no such database', async () => {
    expect(await failureOf((await connected()).getSchema('Nope', call))).toMatchObject({ failure: 'refused' });
  });
});

describe('rows', () => {
  /** What `ovsdb-client dump` has, as plain rows by their UUID. */
  async function dumped(schema: DatabaseSchema, tableName: string): Promise<Map<string, PlainRow>> {
    const table = tableOf(schema, tableName);
    const printed = await servers.tool('ovsdb-client', '--format=json', 'dump', server.remote, OVS, tableName);
    const { headings, data } = JSON.parse(printed) as { headings: string[]; data: unknown[][] };
    const rows = data.map((values) => Object.fromEntries(headings.map((name, index) => [name, values[index]])));
    return new Map(rows.map((row) => [uuidText(row['_uuid']) ?? '', plainRow(tableName, table, row)]));
  }

  function tableOf(schema: DatabaseSchema, name: string) {
    const table = schema.tables.get(name);
    if (table === undefined) throw new Error(`no table ${name}`);
    return table;
  }

  it('are what ovsdb-client dumps, by select and by monitor', async () => {
    const client = await connected();
    await client.transact(OVS, bridgeWith('br-rows', ['p0', 'p1', 'p2', 'p3']), call);
    const schema = await client.getSchema(OVS, call);
    const names = ['Open_vSwitch', 'Bridge', 'Port', 'Interface'];
    const all = Object.fromEntries(names.map((name) => [name, undefined]));
    const tables = await client.monitor(OVS, monitorSpecOf(schema, all), () => {}, call);
    for (const name of names) {
      const table = tableOf(schema, name);
      const expected = await dumped(schema, name);
      expect(expected.size).toBeGreaterThan(0);
      const [selected] = await client.transact(OVS, [{ op: 'select', table: name, where: [] }], call);
      for (const row of selected?.rows ?? []) {
        const { _version, ...read } = plainRow(name, table, row);
        expect(_version).toMatch(/^[0-9a-f-]{36}$/);
        expect(read).toEqual(expected.get(String(read['_uuid'])));
      }
      expect(selected?.rows).toHaveLength(expected.size);
      const replica = tables.get(name) ?? new Map<string, Row>();
      expect([...replica.keys()].sort()).toEqual([...expected.keys()].sort());
      // The monitor leaves out what has its default.
      for (const [id, row] of replica) expect(expected.get(id)).toMatchObject(plainRow(name, table, row));
    }
  });

  it('are chosen by conditions as the server chooses them', async () => {
    const client = await connected();
    await client.transact(OVS, bridgeWith('br-where', ['p0', 'p1', 'p2', 'p3']), call);
    const [all] = await client.transact(OVS, [{ op: 'select', table: 'Port', where: [] }], call);
    const rows = all?.rows ?? [];
    expect(rows).toHaveLength(4);
    const someUuid = uuid(uuidText(rows[0]?.['_uuid']) ?? '');
    const conditions: Condition[] = [
      ...(['==', '!=', 'includes', 'excludes'] as const).flatMap((comparison): Condition[] => [
        ['name', comparison, 'p1'],
        ['tag', comparison, 2],
        ['tag', comparison, set([])],
        ['trunks', comparison, set([1, 2])],
        ['trunks', comparison, 3],
        ['_uuid', comparison, someUuid],
        ['external_ids', comparison, map({})],
      ]),
      ...(['<', '<=', '>', '>='] as const).map((comparison): Condition => ['tag', comparison, 2]),
    ];
    for (const condition of conditions) {
      const columns = ['_uuid'];
      const [chosen] = await client.transact(OVS, [{ op: 'select', table: 'Port', where: [condition], columns }], call);
      const byServer = (chosen?.rows ?? []).map((row) => uuidText(row['_uuid'])).sort();
      const byUs = rows.filter((row) => isMatch(row, [condition])).map((row) => uuidText(row['_uuid']));
      expect(byUs.sort(), JSON.stringify(condition)).toEqual(byServer);
    }
  });
});

describe('transactions', () => {
  const none = { op: 'select', table: 'Bridge', where: [] } as const;
  const transactions: [string, Operation[]][] = [
    ['nothing at all', []],
    ['a bridge with its ports', bridgeWith('br-replay', ['p0', 'p1', 'p2'])],
    ['a select', [{ op: 'select', table: 'Port', where: [['name', '==', 'p1']], columns: ['name', 'tag', 'trunks'] }]],
    ['an update', [{ op: 'update', table: 'Port', where: [['name', '==', 'p1']], row: { tag: set([]) } }]],
    ['a mutation', [{ op: 'mutate', table: 'Bridge', where: [], mutations: [['other_config', 'delete', set(['b'])]] }]],
    [
      'a wait that holds',
      [
        {
          op: 'wait',
          table: 'Bridge',
          where: [],
          columns: ['name'],
          until: '==',
          rows: [{ name: 'br-replay' }],
          timeout: 0,
        },
      ],
    ],
    [
      'a wait that does not',
      [{ op: 'wait', table: 'Bridge', where: [], columns: ['name'], until: '==', rows: [], timeout: 0 }],
    ],
    [
      'a comment and a durable commit',
      [
        { op: 'comment', comment: 'a test' },
        { op: 'commit', durable: true },
      ],
    ],
    ['an abort', [{ op: 'delete', table: 'Open_vSwitch', where: [] }, { op: 'abort' }, none]],
    ['an assertion without the lock', [{ op: 'assert', lock: 'nobodys' }]],
    ['no such table', [{ op: 'select', table: 'Nope', where: [] }]],
    ['no such column', [{ op: 'select', table: 'Bridge', where: [['nope', '==', 1]] }]],
    ['a value out of range', [{ op: 'update', table: 'Port', where: [], row: { tag: 5000 } }]],
    ['a name that is there', bridgeWith('br-replay', [])],
    ['a uuid-name that is none', [{ op: 'insert', table: 'Bridge', 'uuid-name': 'bridge-vmbr0', row: { name: 'x' } }]],
    [
      'a uuid-name twice',
      [1, 2].map((n) => ({ op: 'insert', table: 'Bridge', 'uuid-name': 'x', row: { name: `x${n}` } })),
    ],
    [
      'a reference to nothing',
      [
        { op: 'insert', table: 'Bridge', row: { name: 'x', ports: uuid('00000000-0000-0000-0000-000000000001') } },
        { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
      ],
    ],
    ['no number', [{ op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '/=', 0]] }]],
    ['the end of all', [{ op: 'delete', table: 'Open_vSwitch', where: [] }]],
  ];

  /** UUIDs are drawn anew: each is named by its first appearance. */
  function withoutUuids(json: unknown): unknown {
    const seen = new Map<string, string>();
    const text = JSON.stringify(json).replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => {
      seen.set(id, seen.get(id) ?? `uuid ${seen.size}`);
      return seen.get(id) ?? '';
    });
    return JSON.parse(text);
  }

  it('are answered as those of ovsdb-client are, one after the other', async () => {
    const files = [await servers.createDatabase('twin.db', OVS_SCHEMA)];
    const twin = await servers.serve(files);
    const client = await connected();
    for (const [what, operations] of transactions) {
      const request = JSON.stringify([OVS, ...operations]);
      const printed: unknown[] = JSON.parse(await servers.tool('ovsdb-client', 'transact', twin.remote, request));
      const failed = printed.findIndex((result) => typeof (result as Row | null)?.['error'] === 'string');
      const ours = client.transact(OVS, operations, call);
      if (failed < 0) {
        expect(withoutUuids(await ours), what).toEqual(withoutUuids(printed));
        continue;
      }
      const { error, details = '' } = printed[failed] as { error: string; details?: string };
      const failure = await failureOf(ours);
      expect(failure, what).toBeInstanceOf(OperationError);
      const { index, error: ourError, details: ourDetails } = failure as OperationError;
      expect(withoutUuids({ index, error: ourError, details: ourDetails }), what).toEqual(
        withoutUuids({ index: failed, error, details }),
      );
    }
    await twin.stop();
  });

  it('are refused where ovsdb-client is refused: there is no such database', async () => {
    const refused = await failureOf(servers.tool('ovsdb-client', 'transact', server.remote, '["Nope"]'));
    expect(refused).toBeInstanceOf(CommandError);
    expect(await failureOf((await connected()).transact('Nope', [], call))).toMatchObject({ failure: 'refused' });
  });

  it('leave nothing in the queue of the server when their time is over, and do nothing later', async () => {
    const client = await connected();
    const waiting: Operation[] = [
      { op: 'wait', table: 'Bridge', where: [], columns: ['name'], until: '!=', rows: [] },
      { op: 'insert', table: 'Open_vSwitch', row: { system_type: 'too late' } },
    ];
    expect(await failureOf(client.transact(OVS, waiting, { timeoutMs: 100 }))).toMatchObject({ failure: 'timed-out' });
    await client.echo(call);
    expect(await server.control('memory/show')).not.toContain('triggers:');
    const controller = new AbortController();
    const aborted = failureOf(client.transact(OVS, waiting, { ...call, signal: controller.signal }));
    await eventually('the transaction to wait', async () =>
      (await server.control('memory/show')).includes('triggers:1') ? true : undefined,
    );
    controller.abort();
    expect(await aborted).toMatchObject({ failure: 'aborted' });
    await client.transact(OVS, bridgeWith('br-late', []), call);
    const [late] = await client.transact(
      OVS,
      [{ op: 'select', table: 'Open_vSwitch', where: [['system_type', '==', 'too late']] }],
      call,
    );
    expect(late?.rows).toEqual([]);
  });
});

describe('monitors', () => {
  interface Printed {
    readonly headings: string[];
    readonly data: unknown[][];
  }

  it('end where the monitor of ovsdb-client ends', async () => {
    const client = await connected();
    await client.transact(OVS, bridgeWith('br-0', ['p0']), call);
    const columns = ['name', 'tag', 'trunks', 'external_ids'];
    const theirs = startInBackground('ovsdb-client', [
      ...['--format=json', '--no-headings', 'monitor', server.remote, OVS, 'Port', columns.join(',')],
    ]);
    try {
      await theirs.stdout.waitFor(/"initial"/);
      const schema = await client.getSchema(OVS, call);
      const port = schema.tables.get('Port');
      if (port === undefined) throw new Error('no table Port');
      const watcher = await connected();
      const tables = await watcher.monitor(OVS, monitorSpecOf(schema, { Port: columns }), () => {}, call);
      for (const operations of [
        bridgeWith('br-1', ['p1', 'p2', 'p3'], true),
        [{ op: 'mutate', table: 'Port', where: [], mutations: [['trunks', 'insert', set([7, 8])]] }],
        [{ op: 'mutate', table: 'Port', where: [], mutations: [['trunks', 'delete', set([1, 8])]] }],
        [{ op: 'mutate', table: 'Port', where: [], mutations: [['external_ids', 'insert', map({ a: 'b', c: 'd' })]] }],
        [{ op: 'update', table: 'Port', where: [], row: { external_ids: map({ a: 'x', e: 'f' }), tag: 9 } }],
        [{ op: 'update', table: 'Port', where: [['name', '==', 'p2']], row: { tag: set([]), trunks: 5 } }],
        [{ op: 'update', table: 'Open_vSwitch', where: [], row: { bridges: set([]) } }],
        bridgeWith('br-2', ['last'], true),
      ] as Operation[][]) {
        await client.transact(OVS, operations, call);
      }
      await watcher.echo(call);
      await theirs.stdout.waitFor(/"insert".*"last"/);
      const last = replayed(theirs.stdout.all.map((line) => JSON.parse(line) as Printed));
      const expected = new Map([...last].map(([id, row]) => [id, plainRow('Port', port, row)]));
      const ours = tables.get('Port') ?? new Map<string, Row>();
      expect([...ours.keys()].sort()).toEqual([...expected.keys()].sort());
      for (const [id, row] of ours) expect(expected.get(id)).toMatchObject(plainRow('Port', port, row));
    } finally {
      await theirs.destroy();
    }
  });

  /** The rows that are there after all that it printed. */
  function replayed(printed: readonly Printed[]): Map<string, Row> {
    const rows = new Map<string, Row>();
    let key = '';
    for (const { headings, data } of printed) {
      for (const [id, action, ...values] of data) {
        // The `new` behind an `old` comes without its UUID.
        if (id !== '') key = uuidText(id) ?? String(id);
        const row = Object.fromEntries(headings.slice(2).map((name, index) => [name, values[index]]));
        if (action === 'delete') rows.delete(key);
        else if (action !== 'old') rows.set(key, row);
      }
    }
    return rows;
  }

  it('end when they are cancelled', async () => {
    const client = await connected();
    let changes = 0;
    const spec = { Bridge: { columns: { name: 'plain' } } } as const;
    const tables = await client.monitor(OVS, spec, () => changes++, call);
    await client.transact(OVS, bridgeWith('br-seen', []), call);
    expect([changes, tables.get('Bridge')?.size]).toEqual([1, 1]);
    await client.cancelMonitor(tables, call);
    await emptied();
    await client.transact(OVS, bridgeWith('br-unseen', []), call);
    expect([changes, tables.get('Bridge')?.size]).toEqual([1, 1]);
    expect(await failureOf(client.cancelMonitor(tables, call))).toMatchObject({ failure: 'refused' });
  });

  it('follow a condition, as the same rows come into sight and go', async () => {
    const client = await connected();
    const where = [
      ['tag', '==', 1],
      ['tag', '==', 2],
    ] as const;
    const tables = await client.monitor(OVS, { Port: { columns: { name: 'plain' }, where } }, () => {}, call);
    const names = (): unknown[] => [...(tables.get('Port')?.values() ?? [])].map(({ name }) => name).sort();
    await client.transact(OVS, bridgeWith('br-cond', ['p0', 'p1', 'p2', 'p3']), call);
    expect(names()).toEqual(['p1', 'p2']);
    await client.transact(OVS, [{ op: 'update', table: 'Port', where: [['tag', '==', 3]], row: { tag: 1 } }], call);
    await client.transact(OVS, [{ op: 'update', table: 'Port', where: [['tag', '==', 2]], row: { tag: 3 } }], call);
    expect(names()).toEqual(['p1', 'p3']);
  });
});

describe('locks', () => {
  it('go from one client to the next, and bind a transaction by assert', async () => {
    const [one, other] = [await connected(), await connected()];
    const told: string[] = [];
    const first = await one.lock('arca', (isHeld) => told.push(`one ${isHeld}`), call);
    const second = await other.lock('arca', (isHeld) => told.push(`other ${isHeld}`), call);
    expect([first.isHeld(), second.isHeld()]).toEqual([true, false]);
    const assert: Operation[] = [{ op: 'assert', lock: 'arca' }];
    expect(await one.transact(OVS, assert, call)).toEqual([{}]);
    expect(await failureOf(other.transact(OVS, assert, call))).toMatchObject({ error: 'not owner', index: 0 });
    await first.unlock(call);
    await second.whenHeld(call);
    expect(await other.transact(OVS, assert, call)).toEqual([{}]);
    expect(told).toEqual(['other true']);
  });

  it('are stolen, and come back when the thief lets go', async () => {
    const [owner, thief] = [await connected(), await connected()];
    const told: boolean[] = [];
    const owned = await owner.lock('arca', (isHeld) => told.push(isHeld), call);
    const stolen = await thief.steal('arca', () => {}, call);
    expect(stolen.isHeld()).toBe(true);
    await owner.echo(call);
    expect([owned.isHeld(), told]).toEqual([false, [false]]);
    await stolen.unlock(call);
    await owned.whenHeld(call);
    expect(told).toEqual([false, true]);
  });

  it('are free when their owner is gone', async () => {
    const [owner, next] = [await connected(), await connected()];
    await owner.lock('arca', () => {}, call);
    const waiting = await next.lock('arca', () => {}, call);
    owner.close();
    await waiting.whenHeld(call);
  });
});

describe('a server that is stopped', () => {
  it('meets the deadline of every call', async () => {
    const stopped = await servers.serve([await servers.createDatabase('stopped.db', OVS_SCHEMA)]);
    const client = await connectOvsdb(stopped.target, call);
    const lock = await client.lock('held', () => {}, call);
    stopped.kill('SIGSTOP');
    try {
      const brief = { timeoutMs: 200 };
      const spec = { Bridge: { columns: { name: 'plain' } } } as const;
      const calls: [string, Promise<unknown>][] = [
        ['list_dbs', client.listDatabases(brief)],
        ['get_schema', client.getSchema(OVS, brief)],
        ['transact', client.transact(OVS, [], brief)],
        ['monitor_cond', client.monitor(OVS, spec, () => {}, brief)],
        ['lock', client.lock('other', () => {}, brief)],
        ['unlock', lock.unlock(brief)],
        ['echo', client.echo(brief)],
      ];
      const startMs = performance.now();
      for (const [what, promise] of calls) {
        expect(await failureOf(promise), what).toMatchObject({ failure: 'timed-out' });
      }
      expect(performance.now() - startMs).toBeLessThan(scaled(1000));
    } finally {
      stopped.kill('SIGCONT');
    }
    // What was given up is done with when it goes on: the connection still serves.
    expect(await client.listDatabases(call)).toContain(OVS);
    client.close();
    await stopped.stop();
  });
});
