/** Plans of a database and the transactions made of them, over a model of OVSDB: what comes, what goes, and what is never touched. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Operation, OperationError } from '../../src/ovsdb/operations.js';
import { map, set } from '../../src/ovsdb/values.js';
import type { ActualDatabase } from '../../src/state/database.js';
import { type Edit, inverseOf } from '../../src/state/edits.js';
import type { DesiredBridge, DesiredPort } from '../../src/state/model.js';
import { type Committed, readCommitted, transactionOf } from '../../src/state/operations.js';
import { type DatabasePlan, IDS_KEY, planDatabase } from '../../src/state/plan-database.js';
import { createOvsdbModel, type OvsdbModel } from '../support/ovsdb-model.js';

function port(name: string, more: Partial<DesiredPort> = {}): DesiredPort {
  return { name, type: '', options: {}, tag: undefined, trunks: [], externalIds: {}, ...more };
}

function bridge(name: string, ports: readonly DesiredPort[] = [], more: Partial<DesiredBridge> = {}): DesiredBridge {
  return { name, datapathType: 'netdev', ports, tag: undefined, flows: undefined, ...more };
}

function plan(desired: readonly DesiredBridge[], actual: ActualDatabase, adopt = false): DatabasePlan {
  return planDatabase(desired, actual, { adopt });
}

function commit(model: OvsdbModel, edits: readonly Edit[]): Committed {
  const transaction = transactionOf(edits);
  return readCommitted(transaction, model.transact(transaction.operations));
}

/** Plans, and does it. */
function apply(model: OvsdbModel, desired: readonly DesiredBridge[], adopt = false): DatabasePlan {
  const made = plan(desired, model.read(), adopt);
  expect(made.foreign).toEqual([]);
  commit(model, made.edits);
  return made;
}

/** As somebody else does it; `owner` empty: without a mark. */
function addForeign(model: OvsdbModel, name: string, ports: readonly string[], owner = ''): void {
  const ids = map(owner === '' ? {} : { 'arca-owner': owner });
  const inserts: Operation[] = [name, ...ports].flatMap((each, index): Operation[] => [
    { op: 'insert', table: 'Interface', 'uuid-name': `i${index}`, row: { name: each, type: '' } },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': `p${index}`,
      row: { name: each, external_ids: ids, interfaces: ['named-uuid', `i${index}`] },
    },
  ]);
  model.transact([
    ...inserts,
    {
      op: 'insert',
      table: 'Bridge',
      'uuid-name': 'b',
      row: {
        name,
        datapath_type: 'netdev',
        ports: set([name, ...ports].map((_, index) => ['named-uuid', `p${index}`] as const)),
      },
    },
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', ['named-uuid', 'b']]] },
  ]);
}

function told({ changes }: DatabasePlan): string[] {
  return changes.map(({ kind, path }) => `${kind} ${path}`);
}

function namesOf(model: OvsdbModel): Record<string, string[]> {
  return Object.fromEntries(model.read().bridges.map(({ name, ports }) => [name, ports.map((each) => each.name)]));
}

describe('a plan', () => {
  it('makes bridges with their own ports, and has nothing more to do then', () => {
    const model = createOvsdbModel();
    const desired = [
      bridge('vmbr0', [port('eth0'), port('vmbr0-if', { type: 'internal', tag: 7 })]),
      bridge('vmbr1', [port('vx', { type: 'vxlan', options: { remote_ip: '192.0.2.1' }, trunks: [3, 5] })], { tag: 9 }),
    ];
    expect(told(apply(model, desired))).toEqual([
      'create bridge vmbr0',
      'create bridge vmbr0, port eth0',
      'create bridge vmbr0, port vmbr0-if',
      'create bridge vmbr1',
      'create bridge vmbr1, port vx',
    ]);
    expect(namesOf(model)).toEqual({ vmbr0: ['eth0', 'vmbr0', 'vmbr0-if'], vmbr1: ['vmbr1', 'vx'] });
    expect(plan(desired, model.read())).toEqual({ foreign: [], changes: [], edits: [] });
  });

  it('tells each field that changes, before and after', () => {
    const model = createOvsdbModel();
    apply(model, [
      bridge('b', [
        port('p', { tag: 7, type: 'vxlan', options: { key: '1', df: 'x' }, externalIds: { a: '1', b: '2' } }),
      ]),
    ]);
    const changed = [
      bridge('b', [port('p', { trunks: [1, 2], type: 'gre', options: { key: '2' }, externalIds: { b: '3' } })], {
        datapathType: 'system',
        tag: 5,
      }),
    ];
    const { changes } = apply(model, changed);
    expect(changes).toEqual([
      {
        ...{
          kind: 'update',
          object: 'bridge',
          path: 'bridge b',
          note: expect.stringContaining('makes the bridge anew'),
        },
        fields: [
          { name: 'datapath_type', before: 'netdev', after: 'system' },
          { name: 'tag', before: undefined, after: 5 },
        ],
      },
      {
        ...{ kind: 'update', object: 'port', path: 'bridge b, port p' },
        fields: [
          { name: 'tag', before: 7, after: undefined },
          { name: 'trunks', before: [], after: [1, 2] },
          { name: 'external_ids:b', before: '2', after: '3' },
          { name: 'external_ids:a', before: '1', after: undefined },
          { name: 'type', before: 'vxlan', after: 'gre' },
          { name: 'options:key', before: '1', after: '2' },
          { name: 'options:df', before: 'x', after: undefined },
        ],
      },
    ]);
    expect(plan(changed, model.read()).edits).toEqual([]);
  });

  it('leaves marks of others on a port of ours, and takes its own away', () => {
    const model = createOvsdbModel();
    apply(model, [bridge('b', [port('p', { externalIds: { mine: '1' } })])]);
    model.transact([
      {
        op: 'mutate',
        table: 'Port',
        where: [['name', '==', 'p']],
        mutations: [['external_ids', 'insert', map({ theirs: 'x' })]],
      },
    ]);
    apply(model, [bridge('b', [port('p')])]);
    const row = model.read().bridges[0]?.ports.find(({ name }) => name === 'p');
    expect(row?.externalIds).toEqual({ 'arca-owner': 'arca-state', theirs: 'x' });
    expect(row?.externalIds[IDS_KEY]).toBeUndefined();
  });

  it('moves a port of ours to another bridge in one transaction', () => {
    const model = createOvsdbModel();
    apply(model, [bridge('a', [port('p')]), bridge('b')]);
    expect(told(apply(model, [bridge('a'), bridge('b', [port('p')])]))).toEqual([
      'delete bridge a, port p',
      'create bridge b, port p',
    ]);
    expect(namesOf(model)).toEqual({ a: ['a'], b: ['b', 'p'] });
  });
});

describe('what belongs to others', () => {
  it('a bridge of the same name stops the plan, and is taken with adopt; its own ports stay', () => {
    const model = createOvsdbModel();
    addForeign(model, 'b', ['theirs', 'shared']);
    const desired = [bridge('b', [port('shared'), port('new')])];
    expect(plan(desired, model.read()).foreign).toEqual([
      { path: 'bridge b', why: 'it is there already and somebody else made it', isAdoptable: true },
    ]);
    expect(told(apply(model, desired, true))).toEqual([
      'update bridge b',
      'update bridge b, port shared',
      'create bridge b, port new',
    ]);
    expect(namesOf(model)).toEqual({ b: ['b', 'new', 'shared', 'theirs'] });
    // It does not stop later plans, and what was theirs still is.
    expect(plan(desired, model.read()).changes).toEqual([]);
    apply(model, [bridge('b')]);
    expect(namesOf(model)).toEqual({ b: ['b', 'theirs'] });
  });

  it('a port of the same name stops the plan, naming its bridge', () => {
    const model = createOvsdbModel();
    addForeign(model, 'other', ['eth0']);
    expect(plan([bridge('b', [port('eth0')])], model.read(), true).foreign).toEqual([
      { path: 'bridge b, port eth0', why: 'a port of that name is on bridge other', isAdoptable: false },
    ]);
    expect(plan([bridge('eth0')], model.read(), true).foreign).toMatchObject([{ path: 'bridge eth0' }]);
  });

  it('br-int, the bridge of OVN and ports of relays are not touched, whatever the file says', () => {
    const model = createOvsdbModel();
    addForeign(model, 'br-int', ['tap5555'], 'arca-relay');
    addForeign(model, 'br-ovn', ['o1']);
    model.transact([
      {
        op: 'mutate',
        table: 'Open_vSwitch',
        where: [],
        mutations: [['external_ids', 'insert', map({ 'ovn-bridge': 'br-ovn' })]],
      },
    ]);
    const before = model.dump();
    for (const name of ['br-int', 'br-ovn']) {
      expect(plan([bridge(name)], model.read(), true)).toMatchObject({ foreign: [{ isAdoptable: false }], edits: [] });
    }
    expect(plan([bridge('b', [port('tap5555')])], model.read(), true).foreign).toHaveLength(1);
    // Not even when they carry our mark.
    setMark(model, 'Bridge', 'br-int');
    expect(plan([], model.read())).toEqual({ foreign: [], changes: [], edits: [] });
    expect(JSON.parse(model.dump())).toHaveLength(JSON.parse(before).length);
  });

  it("a relay's port on a bridge that would be adopted is never ours", () => {
    const model = createOvsdbModel();
    addForeign(model, 'b', ['tap1'], 'arca-relay');
    expect(plan([bridge('b', [port('tap1')])], model.read(), true).foreign).toMatchObject([
      { path: 'bridge b, port tap1', isAdoptable: false, why: expect.stringContaining('arca-relay') },
    ]);
  });

  it('a bridge of ours with ports of others is given up, and stays', () => {
    const model = createOvsdbModel();
    apply(model, [bridge('b', [port('p')])]);
    model.transact([
      { op: 'insert', table: 'Interface', 'uuid-name': 'i', row: { name: 'tap1', type: '' } },
      { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name: 'tap1', interfaces: ['named-uuid', 'i'] } },
      {
        op: 'mutate',
        table: 'Bridge',
        where: [['name', '==', 'b']],
        mutations: [['ports', 'insert', ['named-uuid', 'p']]],
      },
    ]);
    const { changes } = apply(model, []);
    expect(changes).toMatchObject([
      { kind: 'delete', path: 'bridge b, port p' },
      { kind: 'update', path: 'bridge b', note: expect.stringContaining('not ours (tap1)') },
    ]);
    expect(namesOf(model)).toEqual({ b: ['b', 'tap1'] });
    expect(model.read().bridges[0]?.externalIds).toEqual({});
  });
});

function setMark(model: OvsdbModel, table: string, name: string): void {
  model.transact([
    {
      op: 'mutate',
      table,
      where: [['name', '==', name]],
      mutations: [['external_ids', 'insert', map({ 'arca-owner': 'arca-state' })]],
    },
  ]);
}

describe('a transaction', () => {
  /** Plans for a database, lets somebody else change it, and gives how the transaction fails. */
  function race(
    desired: readonly DesiredBridge[],
    before: readonly DesiredBridge[],
    meddle: (model: OvsdbModel) => void,
  ) {
    const model = createOvsdbModel();
    apply(model, before);
    const transaction = transactionOf(plan(desired, model.read()).edits);
    meddle(model);
    const dump = model.dump();
    try {
      model.transact(transaction.operations);
    } catch (error) {
      expect(model.dump()).toBe(dump);
      if (error instanceof OperationError) return error.index < transaction.guardCount ? 'guarded' : error.error;
      throw error;
    }
    return 'done';
  }
  const b = bridge('b', [port('p', { tag: 7 })]);

  it.each<[string, readonly DesiredBridge[], readonly DesiredBridge[], (model: OvsdbModel) => void]>([
    ['a bridge of the new name came', [b], [], (model) => addForeign(model, 'b', [])],
    ['a port of a new name came', [b], [], (model) => addForeign(model, 'other', ['p'])],
    ['a port came onto a bridge that goes', [], [b], (model) => apply(model, [bridge('b', [...b.ports, port('q')])])],
    ['the bridge lost our mark', [], [b], (model) => apply(model, [])],
    ['the port went', [bridge('b', [port('p', { tag: 8 })])], [b], (model) => apply(model, [bridge('b')])],
    [
      'the tag that changes is another one',
      [bridge('b', [port('p', { tag: 8 })])],
      [b],
      (model) => apply(model, [bridge('b', [port('p', { tag: 9 })])]),
    ],
  ])('does nothing when %s since', (_what, desired, before, meddle) => {
    expect(race(desired, before, meddle)).toBe('guarded');
  });

  it('goes through when somebody else did something else', () => {
    expect(race([b], [], (model) => addForeign(model, 'other', ['q']))).toBe('done');
    expect(race([bridge('b', [port('p')]), bridge('c')], [b, bridge('c')], (model) => apply(model, [b]))).toBe('done');
  });
});

const names = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
const arbitraryPort = fc.record({
  name: fc.constantFrom('p1', 'p2', 'p3', 'p4'),
  type: fc.constantFrom('', 'internal', 'vxlan'),
  options: fc.dictionary(fc.constantFrom('k1', 'k2'), fc.constantFrom('1', '2')),
  tag: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
  trunks: fc.constantFrom<number[]>([], [1], [1, 2]),
  externalIds: fc.dictionary(fc.constantFrom('x', 'y'), fc.constantFrom('1', '2')),
});
const arbitraryState = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom(...names),
      datapathType: fc.constantFrom('netdev' as const, 'system' as const),
      ports: fc.uniqueArray(arbitraryPort, { selector: ({ name }) => name, maxLength: 3 }),
      tag: fc.option(fc.constantFrom(1, 2), { nil: undefined }),
      flows: fc.constant(undefined),
    }),
    { selector: ({ name }) => name, maxLength: 4 },
  )
  // A port stands on one bridge.
  .map((bridges) => {
    const seen = new Set<string>();
    return bridges.map((each) => ({
      ...each,
      ports: each.ports.filter(({ name }) => !seen.has(name) && seen.add(name)),
    }));
  });

describe('whatever the files say', () => {
  it('what was applied has nothing more to do, and what others made is as it was', () => {
    fc.assert(
      fc.property(fc.array(arbitraryState, { minLength: 1, maxLength: 4 }), (states) => {
        const model = createOvsdbModel();
        addForeign(model, 'br-int', ['tap1'], 'arca-relay');
        addForeign(model, 'theirs', ['q1', 'q2']);
        const foreign = (): unknown =>
          model.read().bridges.filter(({ name }) => name === 'br-int' || name === 'theirs');
        const before = foreign();
        for (const state of states) {
          apply(model, state);
          expect(plan(state, model.read())).toEqual({ foreign: [], changes: [], edits: [] });
          expect(foreign()).toEqual(before);
          const ours = model.read().bridges.filter(({ owner }) => owner === 'arca-state');
          expect(ours.map(({ name }) => name)).toEqual(state.map(({ name }) => name).sort());
        }
        apply(model, []);
        expect(model.read().bridges).toEqual(before);
      }),
      { numRuns: 100 },
    );
  });

  it('the inverse of a transaction leaves the database as it was', () => {
    fc.assert(
      fc.property(arbitraryState, arbitraryState, (first, second) => {
        const model = createOvsdbModel();
        apply(model, first);
        const before = model.dump();
        const { edits } = plan(second, model.read());
        const { made } = commit(model, edits);
        commit(model, inverseOf(edits, made));
        expect(model.dump()).toBe(before);
      }),
      { numRuns: 150 },
    );
  });
});
