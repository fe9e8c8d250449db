/**
 * What a change of OVS's database costs: by our client, and by the tools that a program would start otherwise. The port
 * is a patch port, which has no device, so that what is timed is the way to the database and back.
 */
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { awaitCurCfg, BUMP_NEXT_CFG, OVS_DATABASE } from '../../src/ovs/port-commands.js';
import { connectOvsdb, type Operation, type OvsdbClient, withOvsdb } from '../../src/ovsdb/client.js';
import { integer, map, uuid, uuidText } from '../../src/ovsdb/values.js';
import type { Context } from '../context.js';
import type { MeasureInfo } from '../model.js';
import { median } from '../stats.js';
import { BRIDGE, openSwitch, type Switch } from './ovs.js';
import type { Stage, Task } from './stage.js';

const PORT = 'bench-ovsdb';
const TIMES = 30;
const CALL = { timeoutMs: 5000 };

const OVSDB_MEASURES: readonly MeasureInfo[] = [
  { id: 'ovsdb-add-port', suites: ['ovsdb'], title: 'add a port, until ovs-vswitchd has it', primary: 'p50Us' },
  { id: 'ovsdb-transact', suites: ['ovsdb'], title: 'the same transaction alone', primary: 'p50Us' },
];

export function ovsdbStage(context: Context): Stage {
  return {
    name: 'OVSDB client',
    measures: OVSDB_MEASURES,
    async open() {
      const ovs = await openSwitch(context, 'netdev');
      try {
        const client = await connectOvsdb({ transport: 'unix', path: join(ovs.runDir, 'db.sock') }, CALL);
        const close = async (): Promise<void> => {
          client.close();
          await ovs.close();
        };
        return { tasks: tasksOf(context, ovs, client), close };
      } catch (error) {
        await ovs.close();
        throw error;
      }
    },
  };
}

function tasksOf({ note, signal }: Context, ovs: Switch, client: OvsdbClient): readonly Task[] {
  const task = (measure: string, contender: string, add: () => Promise<unknown>): Task => ({
    measure,
    contender,
    async run() {
      const times: number[] = [];
      // The first one warms up.
      for (let i = 0; i <= TIMES; i++) {
        const startMs = performance.now();
        await add();
        times.push((performance.now() - startMs) * 1000);
        await removePort(client);
      }
      return { metrics: { p50Us: median(times.slice(1)) } };
    },
  });
  const tool = (command: string, args: readonly string[]) => (): Promise<unknown> => {
    note(`measure ovsdb ${command} ${args[0]}`, [[command, ...args].join(' ')]);
    return run(command, args, { ...CALL, env: ovs.environment, signal });
  };
  const anew = (use: (client: OvsdbClient) => Promise<unknown>) => (): Promise<unknown> =>
    withOvsdb(client.target, CALL, use);
  const { vsctl, transact } = commandsOf(ovs);
  return [
    task('ovsdb-add-port', 'client', () => addPort(client)),
    task('ovsdb-add-port', 'client, new connection', anew(addPort)),
    task('ovsdb-add-port', 'ovs-vsctl', tool('ovs-vsctl', vsctl)),
    task('ovsdb-transact', 'client', () => client.transact(OVS_DATABASE, ADD_PORT, CALL)),
    task(
      'ovsdb-transact',
      'client, new connection',
      anew((it) => it.transact(OVS_DATABASE, ADD_PORT, CALL)),
    ),
    task('ovsdb-transact', 'ovs-vsctl', tool('ovs-vsctl', ['--no-wait', ...vsctl])),
    task('ovsdb-transact', 'ovsdb-client', tool('ovsdb-client', transact)),
  ];
}

/** It is there, and nobody has the port: what ovs-vsctl looks at before, and in its transaction again. */
const ADD_PORT: readonly Operation[] = [
  {
    ...({ op: 'wait', timeout: 0, table: 'Bridge', columns: ['name'], until: '==' } as const),
    where: [['name', '==', BRIDGE]],
    rows: [{ name: BRIDGE }],
  },
  {
    ...({ op: 'wait', timeout: 0, table: 'Port', columns: ['name'], until: '==' } as const),
    where: [['name', '==', PORT]],
    rows: [],
  },
  {
    ...({ op: 'insert', table: 'Interface', 'uuid-name': 'i' } as const),
    row: { name: PORT, type: 'patch', options: map({ peer: `${PORT}-peer` }) },
  },
  { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name: PORT, tag: 100, interfaces: ['named-uuid', 'i'] } },
  {
    ...({ op: 'mutate', table: 'Bridge', where: [['name', '==', BRIDGE]] } as const),
    mutations: [['ports', 'insert', ['named-uuid', 'p']]],
  },
  ...BUMP_NEXT_CFG,
];

function commandsOf({ runDir }: Switch): { readonly vsctl: readonly string[]; readonly transact: readonly string[] } {
  const peer = ['--', 'set', 'Interface', PORT, 'type=patch', `options:peer=${PORT}-peer`];
  return {
    vsctl: ['add-port', BRIDGE, PORT, 'tag=100', ...peer],
    transact: ['transact', `unix:${join(runDir, 'db.sock')}`, JSON.stringify([OVS_DATABASE, ...ADD_PORT])],
  };
}

async function addPort(client: OvsdbClient): Promise<void> {
  const results = await client.transact(OVS_DATABASE, ADD_PORT, CALL);
  const nextCfg = integer(results.at(-1)?.rows?.[0]?.['next_cfg']) ?? 0;
  await client.transact(OVS_DATABASE, awaitCurCfg(nextCfg, CALL.timeoutMs), CALL);
}

/** Until ovs-vswitchd has done with it, so that the next one meets it idle. */
async function removePort(client: OvsdbClient): Promise<void> {
  const where = [['name', '==', PORT]] as const;
  const [port] = await client.transact(OVS_DATABASE, [{ op: 'select', table: 'Port', where }], CALL);
  const row = uuid(uuidText(port?.rows?.[0]?.['_uuid']) ?? '');
  const results = await client.transact(
    OVS_DATABASE,
    [{ op: 'mutate', table: 'Bridge', where: [], mutations: [['ports', 'delete', row]] }, ...BUMP_NEXT_CFG],
    CALL,
  );
  const nextCfg = integer(results.at(-1)?.rows?.[0]?.['next_cfg']) ?? 0;
  await client.transact(OVS_DATABASE, awaitCurCfg(nextCfg, CALL.timeoutMs), CALL);
}
